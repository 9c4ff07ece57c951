# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# Linux's AoE driver and the daemon, for the guest's scripts. The driver is in the root namespace,
# the daemon in the namespace `target`: AoE has no loopback, since a host does not receive the
# frames that it sends.

. "$CHECKOUT/tests/kernel/guest/bridge.sh"

CONF=/run/scst.conf
NBD_SOCKET=/run/scst-bridge/nbd.sock
AOE=/dev/etherd/e1.1

# attribute_of NAME SLOT: what the driver says of e1.SLOT.
attribute_of() {
    cat "/sys/block/etherd!e1.$2/$1"
}

# host NAMESPACE: a host that sends no frames but AoE's, so that these can be counted.
host() {
    ip netns add "$1"
    ip netns exec "$1" sysctl -qw net.ipv6.conf.default.disable_ipv6=1
}

# cable INTERFACE PEER NAMESPACE: a veth pair from here to a host.
cable() {
    ip link add "$1" type veth peer name "$2"
    ip link set "$2" netns "$3"
}

# links_up MTU INTERFACE...: of this host, or of the namespace in NAMESPACE.
links_up() {
    local mtu=$1 interface
    shift
    for interface in "$@"; do
        ip ${NAMESPACE:+-n "$NAMESPACE"} link set "$interface" mtu "$mtu" up
    done
}

# configure INTERFACES FILENAME...: the Nth file becomes target e1.N, and the first NBD's disk0.
configure() {
    local interfaces=$1 number interface
    shift
    mkdir -p "${NBD_SOCKET%/*}"
    {
        echo "HANDLER vdisk_fileio {"
        for ((number = 1; number <= $#; number++)); do
            printf '%s\n' "DEVICE disk$((number - 1)) {" "filename ${!number}" "}"
        done
        printf '%s\n' "}" "TARGET_DRIVER nbd {" "listen unix:$NBD_SOCKET" \
            "TARGET disk0 {" "LUN 0 disk0" "enabled 1" "}" "}" "TARGET_DRIVER aoe {"
        for interface in $interfaces; do
            echo "interface $interface"
        done
        for ((number = 1; number <= $#; number++)); do
            printf '%s\n' "TARGET e1.$number {" "LUN 0 disk$((number - 1))" "enabled 1" "}"
        done
        echo "}"
    } >"$CONF"
}

# start_target NAME: the daemon on its host.
start_target() {
    serve "$1" "$CONF" ip netns exec target
}

# load_driver INTERFACES [SLOT]: the driver, until it has e1.SLOT.
load_driver() {
    load aoe "aoe_iflist=$1"
    aoe-discover
    await 30 test -b "/dev/etherd/e1.${2:-1}"
}

# warm_up: read enough for the driver to know the round-trip time; before, it waits 15 s until it
# takes a frame for lost. Each IDENTIFY makes it forget, and it sends one after the last close, so
# keep the device open from here on.
warm_up() {
    dd if="$AOE" of=/dev/null bs=64k count=32 iflag=direct status=none
}
