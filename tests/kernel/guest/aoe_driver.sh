# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# Linux's AoE driver on the daemon, over a veth pair whose other end is in a network namespace: AoE
# has no loopback, since a host does not receive the frames that it sends. In the end the same
# device is used through the NBD client and the AoE driver in turn.

. "$CHECKOUT/tests/kernel/guest/bridge.sh"

AOE=/dev/etherd/e1.1
NBD=/dev/nbd0
NBD_SOCKET=/run/scst-bridge/nbd.sock
IMAGE=/run/disk0.img

mkdir -p /run/scst-bridge
truncate -s "$DISK_BYTES" "$IMAGE"
cat >/run/scst.conf <<'CONF'
HANDLER vdisk_fileio {
    DEVICE disk0 {
        filename /run/disk0.img
    }
}
TARGET_DRIVER nbd {
    listen unix:/run/scst-bridge/nbd.sock
    TARGET disk0 {
        LUN 0 disk0
        enabled 1
    }
}
TARGET_DRIVER aoe {
    interface v1
    TARGET e1.1 {
        LUN 0 disk0
        enabled 1
    }
}
CONF

ip link add v0 type veth peer name v1
ip netns add target
ip link set v1 netns target

# start_target NAME MTU: the daemon in its namespace, and the driver with its device.
start_target() {
    ip netns exec target ip link set v1 mtu "$2" up
    ip link set v0 mtu "$2" up
    serve "$1" /run/scst.conf ip netns exec target
    load aoe aoe_iflist=v0
    aoe-discover
    await 30 test -b "$AOE"
    [[ $(blockdev --getsize64 "$AOE") == "$DISK_BYTES" ]]
}

# mtu NAME MTU: the whole round trip; says how many bytes of data the driver puts into a frame.
mtu() {
    start_target "$@"
    verified "payload $(<"/sys/block/etherd!e1.1/payload")"
    exercise_ext4 "$AOE" "$IMAGE"
    # The driver remembers a device and its payload until it goes.
    rmmod aoe
    stop "$1" 20
}

# nbd_and_aoe NAME: what one client writes, the other reads.
nbd_and_aoe() {
    random_file /run/first
    random_file /run/second
    start_target "$1" 9000
    attach "$NBD" -unix "$NBD_SOCKET"
    make_and_fill "$NBD" /run/first
    verify_unmounted "$NBD"
    verified "fsck clean over NBD"
    detach "$NBD"

    verify_unmounted "$AOE"
    verify_mounted "$AOE" data /run/first
    verified "AoE reads what NBD wrote"
    mount_at "$AOE" /run/mnt
    cp /run/second /run/mnt/more
    umount /run/mnt
    verify_unmounted "$AOE"
    verified "fsck clean over AoE"

    attach "$NBD" -unix "$NBD_SOCKET"
    verify_unmounted "$NBD"
    verify_mounted "$NBD" data /run/first
    verify_mounted "$NBD" more /run/second
    verified "NBD reads what AoE wrote"
    detach "$NBD"
}

step mtu_1500 120 mtu mtu_1500 1500
step mtu_9000 120 mtu mtu_9000 9000
step in_turn 150 nbd_and_aoe in_turn
# The driver still holds e1.1 here: a stop must not depend on the clients' leaving first.
step daemon_stop 30 stop in_turn 20
