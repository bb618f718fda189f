"""Which flannelpy this is. Imports when asked: commands that never say so do not wait for it."""


def version() -> str:
    from importlib import metadata

    try:
        return metadata.version("flannelpy")
    except metadata.PackageNotFoundError:
        return "(not installed)"
