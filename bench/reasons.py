"""Why a form that no peer touches stays as it is in onnxopt as well."""

REASONS: dict[str, str] = {}
