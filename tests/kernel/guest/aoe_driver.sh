# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# Linux's AoE driver on the daemon, over a veth pair. In the end the same device is used through the
# NBD client and the AoE driver in turn.

. "$CHECKOUT/tests/kernel/guest/aoe.sh"

NBD=/dev/nbd0
IMAGE=/run/disk0.img

truncate -s "$DISK_BYTES" "$IMAGE"
configure v1 "$IMAGE"
host target
cable v0 v1 target

# start NAME MTU: the daemon, and the driver with its device.
start() {
    NAMESPACE=target links_up "$2" v1
    links_up "$2" v0
    start_target "$1"
    load_driver v0
    [[ $(blockdev --getsize64 "$AOE") == "$DISK_BYTES" ]]
}

# mtu NAME MTU: the whole round trip; aoe-stat shows size, interface, bytes of data in a frame, and
# state.
mtu() {
    start "$@"
    verified "aoe-stat shows $(aoe-stat | xargs)"
    exercise_ext4 "$AOE" "$IMAGE"
    # The driver remembers a device and its payload until it goes.
    rmmod aoe
    stop "$1" 20
}

# nbd_and_aoe NAME: what one client writes, the other reads.
nbd_and_aoe() {
    random_file /run/first
    random_file /run/second
    start "$1" 9000
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
