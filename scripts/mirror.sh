# For scripts that make a Debian which reaches neither a mirror nor PyPI: what it installs lies in a folder, as a Debian
# repository and as wheels. To be sourced, at the top of the checkout.

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# One of this machine's own configuration, in either of apt's formats.
debian_mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | sort -u | grep -v security | head -n 1
}

# What pip needs to install this project: its dependencies, and what builds it.
requirements() {
    .venv/bin/python -c '
import tomllib
about = tomllib.load(open("pyproject.toml", "rb"))
print(*about["project"]["dependencies"], *about["build-system"]["requires"], sep="\n")'
}

# `strap DEBS LOG [OPTION...] SUITE TREE`: debootstrap that keeps the packages in DEBS.
strap() {
    local debs=$1 log=$2
    shift 2
    debootstrap --variant=minbase --cache-dir="$debs" "$@" "$(debian_mirror)" /usr/share/debootstrap/scripts/sid \
        >"$log" 2>&1 || { tail -n 20 "$log" >&2; die "debootstrap failed"; }
}

# Makes a folder of packages a repository, for `deb [trusted=yes] ... ./`.
index_debs() (
    cd "$1"
    for deb in *.deb; do
        dpkg-deb --field "$deb"
        printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' \
            "$deb" "$(stat -c %s "$deb")" "$(sha256sum "$deb" | cut -d' ' -f1)"
    done >Packages
)

# `fetch_wheels INTO PYTHON REQUIREMENT...`, for the version of Python that the Debian has.
fetch_wheels() {
    local into=$1 version=$2 platform
    platform=$(uname -m)
    shift 2
    .venv/bin/python -m pip download -qq --disable-pip-version-check --only-binary=:all: --python-version "$version" \
        --platform "manylinux_2_17_$platform" --platform "manylinux2014_$platform" \
        --platform "manylinux_2_28_$platform" --dest "$into" "$@"
}
