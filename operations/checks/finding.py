"""How checks word what they find."""

from operations.model import Finding

ERROR, WARNING = "error", "warning"


def error(check: str, says: str, cure: str) -> Finding:
    return Finding(check, ERROR, says, cure)


def warning(check: str, says: str, cure: str) -> Finding:
    return Finding(check, WARNING, says, cure)
