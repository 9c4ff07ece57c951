# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# The project's programs and Linux's NBD client, for the guest's scripts.

BRIDGE=$CHECKOUT/.venv/bin/scst-bridge
# The environment may be shared with another checkout, whose code is not what is tested.
export PYTHONPATH=$CHECKOUT
DISK_BYTES=$((512 << 20))

# serve NAME CONF [PREFIX...]: the daemon, spawned as NAME by way of PREFIX, with its doors open.
serve() {
    local name=$1 conf=$2
    shift 2
    spawn "$name" "$@" "$BRIDGE" serve "$conf"
    await_line "$name" 120 ready
    verified "$name ready"
}

# attach DEVICE SERVER...: connect the kernel's NBD client to $EXPORT; -b is the block size in bytes.
attach() {
    local device=$1
    shift
    nbd-client "$@" "$device" -b 512 -N "${EXPORT:-disk0}"
    [[ $(blockdev --getsize64 "$device") == "$DISK_BYTES" ]]
    verified "attached"
}

# detach DEVICE: the kernel has hung up once the attribute `pid` is gone.
detach() {
    nbd-client -d "$1"
    await 20 test ! -e "/sys/block/${1#/dev/}/pid"
    verified "detached"
}
