# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# The daemon's LUNs as disks of its own host (kernel 1): target t0 has disk0, which NBD and AoE lead
# to as well, and target t1 has disk1, whose commands the kernel gives up soon.

. "$CHECKOUT/tests/kernel/guest/aoe.sh"

IMAGE=/run/disk0.img
IMAGE_BYTES=$((640 << 20))
GROWN_BYTES=$((64 << 20))
FILE_MIB=512
SHORT_TIME_OUT_S=4
NBD=/dev/nbd0
# The first two SCSI disks of this machine, and one that comes and goes.
DISK=/dev/sda
SHORT_DISK=/dev/sdb
NEW_DISK=/dev/sdc
TARGETS=/sys/kernel/config/target

mount -t configfs none /sys/kernel/config
mkdir -p "${NBD_SOCKET%/*}"
truncate -s "$IMAGE_BYTES" "$IMAGE"
truncate -s 16M /run/disk1.img
truncate -s 32M /run/disk2.img
# AoE within one host: what goes out of one end of the cable comes in at the other.
ip link add v0 type veth peer name v1
links_up 9000 v0 v1

# configure_kernel FLAG: whether the LUNs are disks of this host.
configure_kernel() {
    cat >"$CONF" <<CONF
HANDLER vdisk_fileio {
    DEVICE disk0 {
        filename $IMAGE
        thin_provisioned 1
        rotational 0
    }
    DEVICE disk1 {
        filename /run/disk1.img
    }
    DEVICE disk2 {
        filename /run/disk2.img
    }
}
TARGET_DRIVER nbd {
    listen unix:$NBD_SOCKET
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
TARGET_DRIVER scst_local {
    socket /run/scst-bridge/local.sock
    TARGET t0 {
        kernel $1
        cmd_time_out 120
        LUN 0 disk0
        enabled 1
    }
    TARGET t1 {
        kernel $1
        cmd_time_out $SHORT_TIME_OUT_S
        LUN 3 disk1
        enabled 1
    }
}
CONF
}

has_size() {
    [[ $(blockdev --getsize64 "$1") == "$2" ]]
}

start() {
    configure_kernel 1
    serve daemon "$CONF"
    has_size "$DISK" "$IMAGE_BYTES"
    has_size "$SHORT_DISK" $((16 << 20))
    [[ -c /dev/sg0 && -c /dev/sg1 ]]
    verified "disks and their sg devices are there"
    "$BRIDGE" status | awk '$NF ~ /^\/dev\/sg/ { print "verified: status shows", $1, $2, $3, $(NF - 1), $NF }'
    sg_inq "$SHORT_DISK" | grep -q "disk1"
    verified "INQUIRY data are the device's"
}

# large_file: 512 MiB that are nowhere equal at a distance of whole blocks.
large_file() {
    local left=$((FILE_MIB << 20)) bytes
    bytes=$(stat -c %s /run/piece)
    while ((left > 0)); do
        head -c "$left" /run/piece
        ((left -= bytes)) || true
    done
}

ext4() {
    head -c $(((32 << 20) + 1)) /dev/urandom >/run/piece
    mkfs.ext4 -q -F "$DISK"
    mount_at "$DISK" /run/mnt
    large_file >/run/mnt/data
    umount /run/mnt
    verify_unmounted "$DISK"
    verified "fsck clean"
    mount_at "$DISK" /run/mnt
    large_file | cmp - /run/mnt/data
    verified "512 MiB equal after remount"
    umount /run/mnt
    e2fsck -f -n "$IMAGE"
    verified "backing file clean"
}

discard() {
    # 512 MiB are 1048576 sectors.
    (($(stat -c %b "$IMAGE") >= 1048576))
    blkdiscard -f "$DISK"
    (($(stat -c %b "$IMAGE") < 1024))
    verified "blkdiscard gives the space back"
}

resize() {
    truncate -s $((IMAGE_BYTES + GROWN_BYTES)) "$IMAGE"
    kill -HUP "$(<"/run/daemon.pid")"
    await 30 has_size "$DISK" $((IMAGE_BYTES + GROWN_BYTES))
    verified "new size seen"
    random_file /run/tail 64k
    dd if=/run/tail of="$DISK" bs=64k seek=$(((IMAGE_BYTES >> 16) + 1023)) oflag=direct
    tail -c 65536 "$IMAGE" | cmp - /run/tail
    verified "new end written"
}

# door VERB DEVICE NUMBER: 64 KiB of their own to or from a device, past all caches.
door() {
    case $1 in
        write) dd if="/run/part$3" of="$2" bs=64k seek="$3" oflag=direct status=none ;;
        read) dd if="$2" bs=64k skip="$3" count=1 iflag=direct status=none | cmp - "/run/part$3" ;;
    esac
}

three_doors() {
    local devices=("$DISK" "$NBD" "$AOE") writer reader number=0
    nbd-client -unix "$NBD_SOCKET" "$NBD" -b 512 -N disk0
    load_driver v0
    for writer in "${devices[@]}"; do
        random_file "/run/part$number" 64k
        door write "$writer" "$number"
        for reader in "${devices[@]}"; do
            door read "$reader" "$number"
        done
        verified "what ${writer##*/} wrote is read by all"
        ((number += 1))
    done
    rmmod aoe
    nbd-client -d "$NBD"
}

reset() {
    sg_reset -d "$DISK"
    await 10 grep -q "target t0: LUN 0: task management function 5" "$SHARE/daemon.log"
    verified "the daemon hears of a reset"
    dd if="$DISK" of=/dev/null bs=4k count=1 iflag=direct
    verified "the disk goes on"
}

add_lun() {
    "$BRIDGE" add-lun t0 1 disk2 --driver scst_local
    await 30 test -b "$NEW_DISK"
}

rem_lun() {
    "$BRIDGE" rem-lun t0 1 --driver scst_local
}

read_new() {
    dd if="$NEW_DISK" bs=1M count=1 iflag=direct status=none
}

luns() {
    random_file /run/new 1M
    add_lun
    dd if=/run/new of="$NEW_DISK" bs=1M oflag=direct status=none
    read_new | cmp - /run/new
    cmp -n $((1 << 20)) /run/disk2.img /run/new
    verified "a LUN that is added is a disk"
    # Nothing is to be written in the background.
    mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$NEW_DISK"
    mount_at "$NEW_DISK" /run/mnt
    cp /run/new /run/mnt/data
    sync -f /run/mnt
    rem_lun
    # The time limit of its commands is 120 s.
    if timeout 60 dd if="$NEW_DISK" of=/dev/null bs=4k count=1 iflag=direct 2>/run/error; then
        return 1
    fi
    grep -q "Input/output error" /run/error
    [[ -b $NEW_DISK ]]
    verified "a mounted disk stays, and fails at once"
    dd if="$DISK" of=/dev/null bs=4k count=1 iflag=direct
    verified "the others go on"
    add_lun
    echo 3 >/proc/sys/vm/drop_caches
    cmp /run/mnt/data /run/new
    umount /run/mnt
    verify_unmounted "$NEW_DISK"
    verified "the disk goes on when its LUN is back"
    rem_lun
    await 30 test ! -e "$NEW_DISK"
    verified "the disk of a LUN that is removed is gone"
}

is_running() {
    [[ -d /proc/$1 ]]
}

# Each of them is on stable storage before the next is begun.
write_synced() {
    local number
    for number in $(seq 60); do
        dd if=/run/record of="/run/mnt/record$number" bs=64k conv=fsync status=none
        echo "$number" >/run/acknowledged
    done
}

has_acknowledged() {
    [[ -s /run/acknowledged ]] && (($(</run/acknowledged) >= $1))
}

killed() {
    local writing begin number acknowledged
    mkfs.ext4 -q -F "$DISK"
    mount_at "$DISK" /run/mnt
    random_file /run/record 64k
    write_synced &
    writing=$!
    await 60 has_acknowledged 10
    kill -KILL "$(<"/run/daemon.pid")"
    await 20 test -s /run/daemon.status
    is_running "$writing"
    verified "daemon killed in mid-write"
    begin=$SECONDS
    if dd if="$SHORT_DISK" of=/dev/null bs=4k count=1 iflag=direct; then
        return 1
    fi
    ((SECONDS - begin <= 3 * SHORT_TIME_OUT_S))
    verified "a read fails after cmd_time_out"
    acknowledged=$(</run/acknowledged)
    serve next "$CONF"
    grep -c "(taken over)" "$SHARE/next.log" | grep -qx 2
    verified "both disks are taken over"
    wait "$writing"
    verified "the writer goes on without an error"
    dd if="$SHORT_DISK" of=/dev/null bs=4k count=1 iflag=direct
    umount /run/mnt
    verify_unmounted "$DISK"
    verified "fsck clean"
    mount_at "$DISK" /run/mnt
    for number in $(seq 60); do
        cmp "/run/mnt/record$number" /run/record
    done
    ((acknowledged >= 10))
    verified "nothing acknowledged is lost"
}

# The file system of the last step is still mounted.
in_use() {
    stop next 60
    grep -q "target t0: LUN 0: $DISK .* is in use, and stays" "$SHARE/next.log"
    [[ -b $DISK && ! -b $SHORT_DISK ]]
    verified "the mounted disk stays, and it alone"
    serve third "$CONF"
    cmp /run/mnt/record60 /run/record
    verified "the next daemon serves it"
    umount /run/mnt
}

has_no_disks() {
    ! compgen -G "/dev/sd*" && ! compgen -G "/dev/sg*"
}

is_clean() {
    has_no_disks && ! compgen -G "$TARGETS/core/*_*" && [[ ! -e $TARGETS/loopback ]]
}

clean_stop() {
    stop third 60
    is_clean
    verified "nothing is left in the kernel"
}

leftovers() {
    configure_kernel 1
    serve fourth "$CONF"
    kill -KILL "$(<"/run/fourth.pid")"
    await 20 test -s /run/fourth.status
    [[ -b $DISK && -b $SHORT_DISK ]]
    configure_kernel 0
    serve fifth "$CONF"
    has_no_disks
    verified "what is no longer configured is removed"
    stop fifth 60
    is_clean
    verified "nothing is left in the kernel"
}

no_module() {
    rmmod tcm_loop target_core_user
    configure_kernel 1
    serve sixth "$CONF"
    grep -q "no kernel disks for target t0, t1: kernel module target_core_user is not loaded" \
        "$SHARE/sixth.log"
    verified "the missing module is named"
    [[ $(nbdinfo --size "nbd+unix:///disk0?socket=$NBD_SOCKET") == $((IMAGE_BYTES + GROWN_BYTES)) ]]
    verified "NBD is served"
    stop sixth 30
}

step start 90 start
step ext4 240 ext4
step discard 60 discard
step resize 60 resize
step three_doors 90 three_doors
step reset 60 reset
step luns 240 luns
step killed 240 killed
step in_use 120 in_use
step clean_stop 90 clean_stop
step leftovers 150 leftovers
step no_module 90 no_module
