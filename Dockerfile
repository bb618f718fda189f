# The root file system of the managed plugin; `make plugin` puts plugin.json beside it. It is flattened on the way
# (docker export), so what a later step removes is not in the plugin.
# It runs as root: dockerd ignores a plugin's user, and links, routes and rules of the host are root's. Of root's rights it
# has those that plugin.json lists.
ARG BASE=debian:trixie-20260918-slim@sha256:a99cfc517144bc59b1978475ec53b46ecabec7e43635402ee5b77cc54cd1b20a

# Both kinds of iptables: which one is used depends on where the host's Docker has its chains.
FROM ${BASE} AS system
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 iptables nftables wireguard-tools

FROM system AS build
RUN apt-get install --yes --no-install-recommends python3-venv
WORKDIR /src
COPY . .
RUN python3 -m venv /build \
 && python3 -m venv --without-pip /opt/flannelpy \
 && /build/bin/pip --python /opt/flannelpy/bin/python install --no-cache-dir .

# A plugin has no shell to type at and is never updated in place: what packages and their makers need can go. Of dpkg's
# records the list of packages stays, for scripts/sbom and for whoever looks for vulnerable ones.
FROM system
RUN dpkg-query --show --showformat '${Package}\t${Version}\t${Architecture}\t${source:Package}\n' \
    >/usr/share/debian-packages \
 && rm -rf /var/lib/apt /var/lib/dpkg /var/cache/* /var/log/* \
    /usr/share/doc /usr/share/man /usr/share/info /usr/share/locale /usr/share/zoneinfo /usr/share/bash-completion \
    /usr/lib/apt /usr/lib/*-linux-gnu/libapt-* /usr/bin/sqv /usr/lib/*-linux-gnu/gconv \
    /usr/bin/perl* /usr/share/perl* /usr/lib/*-linux-gnu/perl-base \
    /usr/lib/python3/dist-packages /usr/lib/python3.*/ensurepip /usr/lib/python3.*/idlelib /usr/lib/python3.*/pydoc_data
COPY --from=build /opt/flannelpy /opt/flannelpy
ENTRYPOINT ["/opt/flannelpy/bin/flannelpy"]
CMD ["serve"]
