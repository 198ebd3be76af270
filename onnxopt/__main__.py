"""`python -m onnxopt` is the command line."""

from onnxopt.cli.main import main

main()
