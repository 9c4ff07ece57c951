# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# Linux's AoE driver on the daemon, where something happens to the target: a disk with bad sectors,
# another size, a reservation by another host, and a daemon that is killed.

. "$CHECKOUT/tests/kernel/guest/aoe.sh"

MTU=1500
SMALL_BYTES=$((16 << 20))
# The disk of e1.2 cannot read or write these 8 sectors.
BAD_LBA=2048
BAD_SECTORS=8
# The longest that a reader may wait for the news of a bad sector.
EIO_MS=1000
# Locally administered, and no interface's.
OTHER_HOST=02:00:00:00:00:04
# After so long without an answer the driver takes a device for dead. It waits 16 s until it takes the
# first frame of all for lost.
DEAD_S=20
DEAD_PARAMETER=/sys/module/aoe/parameters/aoe_deadsecs

for number in 1 2 3 4; do
    truncate -s "$SMALL_BYTES" "/run/file$number"
done
random_file /run/file2 16M
random_file /run/file4 16M
# loop0 and loop1: disks with a cache, the kernel's; what is in the file has been flushed.
losetup /dev/loop0 /run/file2
losetup /dev/loop1 /run/file3
# There is no udev to wait for.
DM_DISABLE_UDEV=1 dmsetup create bad <<TABLE
0 $BAD_LBA linear /dev/loop0 0
$BAD_LBA $BAD_SECTORS error
$((BAD_LBA + BAD_SECTORS)) $((SMALL_BYTES / 512 - BAD_LBA - BAD_SECTORS)) linear /dev/loop0 $((BAD_LBA + BAD_SECTORS))
TABLE
host target
cable v0 v1 target
NAMESPACE=target links_up "$MTU" v1
links_up "$MTU" v0
configure v1 /run/file1 /dev/mapper/bad /dev/loop1 /run/file4

start() {
    start_target daemon
    load_driver v0
    for number in 2 3 4; do
        await 30 test -b "/dev/etherd/e1.$number"
    done
    aoe-stat | awk '{ print "verified: " $1, $2, $NF }'
}

# sector VERB LBA: one sector of e1.2 to or from /run/sector, past the client's cache.
sector() {
    case $1 in
        read) dd if=/dev/etherd/e1.2 of=/run/sector bs=512 skip="$2" count=1 iflag=direct ;;
        write) dd if=/run/sector of=/dev/etherd/e1.2 bs=512 seek="$2" count=1 oflag=direct ;;
    esac
}

# verify_eio VERB: each of the bad sectors gives it.
verify_eio() {
    local ms
    ms=$(python3 "$CHECKOUT/tests/kernel/guest/time_eio.py" \
        "$1" /dev/etherd/e1.2 "$BAD_LBA" "$BAD_SECTORS")
    ((ms < EIO_MS))
    verified "$1 gives EIO in time"
}

# is_stored LBA: what was read of a sector is what the disk has.
is_stored() {
    cmp /run/sector <(dd if=/run/file2 bs=512 skip="$1" count=1 status=none)
}

bad_sectors() {
    # Keeps the driver from asking for IDENTIFY data between the commands.
    exec 9</dev/etherd/e1.2
    local after=$((BAD_LBA + BAD_SECTORS)) lba
    verify_eio read
    for lba in $((BAD_LBA - 1)) "$after"; do
        sector read "$lba"
        is_stored "$lba"
    done
    verified "neighbours are read"
    head -c 512 /dev/urandom >/run/sector
    verify_eio write
    sector write "$after"
    is_stored "$after"
    verified "neighbour is written"
    exec 9<&-
}

has_size() {
    [[ $(blockdev --getsize64 "$AOE") == "$1" ]]
}

resize() {
    truncate -s $((2 * SMALL_BYTES)) /run/file1
    kill -HUP "$(<"/run/daemon.pid")"
    await 30 has_size $((2 * SMALL_BYTES))
    verified "announced size taken over by an unused device"
    exec 9<"$AOE"
    truncate -s $((3 * SMALL_BYTES)) /run/file1
    kill -HUP "$(<"/run/daemon.pid")"
    await 30 has_size_when_asked $((3 * SMALL_BYTES))
    verified "size seen after aoe-revalidate"
    random_file /run/tail 64k
    dd if=/run/tail of="$AOE" bs=64k seek=$((3 * SMALL_BYTES / 65536 - 1)) oflag=direct
    tail -c 65536 /run/file1 | cmp - /run/tail
    verified "new end written"
    exec 9<&-
}

has_size_when_asked() {
    aoe-revalidate e1.1
    has_size "$1"
}

# reserve RCMD [MAC...]: Reserve/Release to e1.4 by the other host; 1 sets the list, 0 reads it.
reserve() {
    python3 "$CHECKOUT/tests/kernel/guest/aoe_reserve.py" v0 "$OTHER_HOST" 1 4 "$@"
}

# read_file4 COUNT: so many of 64 KiB, past the client's cache.
read_file4() {
    dd if=/dev/etherd/e1.4 of=/run/read bs=64k count="$1" iflag=direct
}

is_running() {
    [[ -d /proc/$1 ]]
}

fenced() {
    local reading usual_dead_s
    # The driver waits up to 16 s with each frame until it has seen how long answers take.
    exec 9</dev/etherd/e1.4
    read_file4 32
    reserve 1 "$OTHER_HOST"
    verified "reserved by another host"
    read_file4 256 &
    reading=$!
    aoeping -i -s 10 1 4 v0 >/run/identify
    [[ $(wc -w </run/identify) -gt 256 ]]
    verified "IDENTIFY answered"
    is_running "$reading"
    verified "read waits"
    reserve 1
    wait "$reading"
    cmp /run/read /run/file4
    verified "read goes on after release"
    reserve 1 "$OTHER_HOST"
    usual_dead_s=$(<"$DEAD_PARAMETER")
    echo "$DEAD_S" >"$DEAD_PARAMETER"
    if read_file4 1 2>/run/complaint; then
        return 1
    fi
    grep -q "Input/output error" /run/complaint
    verified "read fails in the end"
    echo "$usual_dead_s" >"$DEAD_PARAMETER"
    exec 9<&-
    reserve 1
    aoe-discover
    await 30 is_up 4
    read_file4 32
    cmp -n "$(stat -c %s /run/read)" /run/read /run/file4
    verified "read after release"
}

is_up() {
    [[ $(attribute_of state "$1") == up ]]
}

# acknowledged_bytes SLOT: how much the driver has been told to be written (Linux Documentation,
# block/stat: the 7th field counts sectors).
acknowledged_bytes() {
    local fields
    read -ra fields <<<"$(attribute_of stat "$1")"
    echo $((fields[6] * 512))
}

has_acknowledged() {
    (($(acknowledged_bytes "$1") >= $2))
}

# A write by the file's own host stays in the cache of loop1, for nothing writes back but a flush and
# the last close. So what is in the file has been flushed by the daemon.
cache_is_kept() {
    exec 8</dev/loop1
    echo 0 >/proc/sys/vm/dirty_writeback_centisecs
    # A disk that has not been written to before has no share of the memory that may be dirty.
    echo 50 >/sys/block/loop1/bdi/min_ratio
    dd if=/run/file4 of=/dev/loop1 bs=64k count=1 conv=notrunc status=none
    if cmp -s -n 65536 /run/file4 /run/file3; then
        return 1
    fi
    verified "nothing is in the file until it is flushed"
}

killed() {
    local writing bytes
    random_file /run/reference 16M
    cache_is_kept
    exec 9</dev/etherd/e1.3
    dd if=/dev/etherd/e1.3 of=/dev/null bs=64k count=32 iflag=direct status=none
    dd if=/run/reference of=/dev/etherd/e1.3 bs=16k oflag=direct &
    writing=$!
    await 60 has_acknowledged 3 $((1 << 20))
    kill -KILL "$(<"/run/daemon.pid")"
    await 20 test -s /run/daemon.status
    is_running "$writing"
    verified "daemon killed in mid-write"
    bytes=$(acknowledged_bytes 3)
    echo "$bytes bytes acknowledged"
    cmp -n "$bytes" /run/reference /run/file3
    verified "nothing acknowledged is lost"
    start_target next
    wait "$writing"
    verified "write goes on with the next daemon"
    kill -KILL "$(<"/run/next.pid")"
    await 20 test -s /run/next.status
    cmp /run/reference /run/file3
    verified "all is in the file of a daemon that was killed after"
    exec 9<&-
}

step start 90 start
step bad_sectors 30 bad_sectors
step resize 60 resize
step fenced 120 fenced
step killed 150 killed
