# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# Linux's NBD client on the daemon and on the nbdkit plugin. Each step has a /dev/nbdN of its own, so
# that a step which fails does not take the next one's device.

. "$CHECKOUT/tests/kernel/guest/bridge.sh"

mkdir -p /run/scst-bridge
truncate -s "$DISK_BYTES" /run/disk0.img /run/disk1.img /run/thin.img
cat >/run/scst.conf <<'CONF'
HANDLER vdisk_fileio {
    DEVICE disk0 {
        filename /run/disk0.img
    }
    DEVICE thin {
        filename /run/thin.img
        thin_provisioned 1
    }
}
TARGET_DRIVER nbd {
    listen unix:/run/scst-bridge/nbd.sock
    listen 127.0.0.1:10809
    listen vsock:10809
    TARGET disk0 {
        LUN 0 disk0
        enabled 1
    }
    TARGET thin {
        LUN 0 thin
        enabled 1
    }
}
TARGET_DRIVER scst_local {
    socket /run/scst-bridge/local.sock
    TARGET local {
        LUN 0 disk0
        enabled 1
    }
}
CONF

unix_socket() {
    attach /dev/nbd0 -unix /run/scst-bridge/nbd.sock
    exercise_ext4 /dev/nbd0 /run/disk0.img
    detach /dev/nbd0
}

four_tcp_connections() {
    attach /dev/nbd1 127.0.0.1 10809 -C 4
    [[ $(ss -H -t -n state established dport = :10809 | wc -l) == 4 ]]
    verified "4 connections"
    exercise_ext4 /dev/nbd1 /run/disk0.img
    detach /dev/nbd1
}

# fstrim gives the space of a deleted file back, and what is left outlives a reconnect.
trim_and_reconnect() {
    local device=/dev/nbd4 before after
    EXPORT=thin attach "$device" 127.0.0.1 10809 -C 4
    random_file /run/reference
    make_and_fill "$device" /run/reference
    mount_at "$device" /run/mnt
    cp /run/mnt/data /run/mnt/copy
    sync -f /run/mnt
    before=$(stat -c %b /run/thin.img)
    rm /run/mnt/copy
    sync -f /run/mnt
    fstrim /run/mnt
    umount /run/mnt
    after=$(stat -c %b /run/thin.img)
    # The copy's 32 MiB are 65536 sectors of 512 bytes.
    ((before - after > 60000))
    verified "space given back"
    detach "$device"
    EXPORT=thin attach "$device" 127.0.0.1 10809 -C 4
    verify_unmounted "$device"
    verified "fsck clean after reconnect"
    verify_mounted "$device" data /run/reference
    verified "data equal after reconnect"
    detach "$device"
}

# Over vsock, whose loopback has the CID 1.
vsock() {
    [[ $(nbdinfo --size nbd+vsock://1:10809/disk0) == "$DISK_BYTES" ]]
    verified "size told over vsock"
}

# plugin NAME DEVICE IMAGE PARAMETER...: the same through nbdkit, which closes its disk at the end.
plugin() {
    local name=$1 device=$2 image=$3
    shift 3
    spawn "$name" "$BRIDGE" nbdkit -f -U "/run/$name.sock" -- "$@"
    await 60 socket_or_ended "$name"
    attach "$device" -unix "/run/$name.sock"
    exercise_ext4 "$device" "$image"
    detach "$device"
    stop "$name" 20
}

socket_or_ended() {
    [[ -S /run/$1.sock || -e /run/$1.status ]]
}

step daemon_start 90 serve daemon /run/scst.conf
step unix_socket 90 unix_socket
step four_tcp_connections 90 four_tcp_connections
step trim_and_reconnect 150 trim_and_reconnect
step vsock 30 vsock
step plugin_embedded 120 plugin plugin_embedded /dev/nbd2 /run/disk1.img file=/run/disk1.img
EXPORT=local step plugin_on_daemon 120 plugin plugin_on_daemon /dev/nbd3 /run/disk0.img \
    device=local socket=/run/scst-bridge/local.sock
step daemon_stop 30 stop daemon 20
