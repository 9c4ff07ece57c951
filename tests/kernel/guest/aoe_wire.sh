# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# Linux's AoE driver on the daemon, where the Ethernet is not to be relied on: frames get lost, come
# twice or late, and one of two links goes down.
#
#   v0 -- w0 = br0 = w1 -- v1    the lossy wire: a switch whose two ports have a netem queue
#   v2 ----------------- v3     the second link

. "$CHECKOUT/tests/kernel/guest/aoe.sh"

IMAGE=/run/disk0.img
# Small, so that little is spent on the journal.
DISK_BYTES=$((128 << 20))

sysctl -qw net.ipv6.conf.default.disable_ipv6=1
truncate -s "$DISK_BYTES" "$IMAGE"
host target
host wire
cable v0 w0 wire
ip link add w1 netns wire type veth peer name v1 netns target
cable v2 v3 target
ip -n wire link add br0 type bridge mcast_snooping 0
ip -n wire link set w0 master br0
ip -n wire link set w1 master br0

# wire_up MTU: from the driver to the daemon.
wire_up() {
    NAMESPACE=wire links_up "$1" w0 w1 br0
    NAMESPACE=target links_up "$1" v1
    links_up "$1" v0
}

# received PORT: how many frames have come to the switch there.
received() {
    ip netns exec wire cat "/sys/class/net/$1/statistics/rx_packets"
}

# spoil FROM TO: of the frames that come to FROM and leave at TO, one in 500 gets lost, one comes
# twice, and one comes 5 ms late, so that others overtake it.
spoil() {
    received "$1" >"/run/$1.before"
    ip netns exec wire tc qdisc add dev "$2" root netem \
        loss 0.2% duplicate 0.2% delay 5ms reorder 99.8%
}

# verify_spoilt FROM TO: each of it has happened. netem's "dropped" are the lost frames, and its
# "requeues" those that it did not keep for 5 ms.
verify_spoilt() {
    local offered shown
    offered=$(($(received "$1") - $(<"/run/$1.before")))
    shown=$(ip netns exec wire tc -s qdisc show dev "$2")
    [[ $shown =~ \ ([0-9]+)\ pkt\ \(dropped\ ([0-9]+),\ .*\ requeues\ ([0-9]+)\) ]]
    local sent=${BASH_REMATCH[1]} lost=${BASH_REMATCH[2]} at_once=${BASH_REMATCH[3]}
    local duplicated=$((sent + lost - offered)) late=$((sent - at_once))
    echo "$1 to $2: $offered frames, $lost lost, $duplicated duplicated, $late late"
    ((lost > 0 && duplicated > 0 && late > 0))
    verified "frames from $1 to $2 lost, duplicated and late"
}

# lossy NAME MTU SIZE: the round trip of SIZE bytes of data.
lossy() {
    wire_up "$2"
    configure v1 "$IMAGE"
    start_target "$1"
    load_driver v0
    exec 9<"$AOE"
    warm_up
    spoil w0 w1
    spoil w1 w0
    exercise_ext4 "$AOE" "$IMAGE" "$3"
    verify_spoilt w0 w1
    verify_spoilt w1 w0
    ip netns exec wire tc qdisc del dev w0 root
    ip netns exec wire tc qdisc del dev w1 root
    exec 9<&-
    rmmod aoe
    stop "$1" 20
}

# sent INTERFACE: how many frames the driver has sent there.
sent() {
    cat "/sys/class/net/$1/statistics/tx_packets"
}

# pulled NAME: the driver writes over both links until the daemon's end of one goes down.
pulled() {
    local before copying
    wire_up 1500
    links_up 1500 v2
    NAMESPACE=target links_up 1500 v3
    configure "v1 v3" "$IMAGE"
    start_target "$1"
    load_driver v0,v2
    exec 9<"$AOE"
    warm_up
    await 30 is_on_both_links
    verified "on $(attribute_of netif 1)"
    random_file /run/reference 16M
    mkfs.ext4 -q -F "$AOE"
    mount_at "$AOE" /run/mnt
    before=$(sent v2)
    cp /run/reference /run/mnt/data
    sync -f /run/mnt &
    copying=$!
    # An eighth of the 16384 frames that the data need.
    await 60 has_sent v2 $((before + 2048))
    ip -n target link set v3 down
    kill -0 "$copying"
    verified "link down in mid-write"
    wait "$copying"
    umount /run/mnt
    verified "write completed"
    verify_unmounted "$AOE"
    verified "fsck clean"
    verify_mounted "$AOE" data /run/reference
    verified "data equal after remount"
    verify_backing "$IMAGE" /run/reference
    verified "backing file equal"
    exec 9<&-
}

is_on_both_links() {
    [[ $(attribute_of netif 1) == *v0*v2* || $(attribute_of netif 1) == *v2*v0* ]]
}

has_sent() {
    (($(sent "$1") >= $2))
}

# back NAME: the daemon is heard again over the link that was down.
back() {
    ip -n target link set v3 up
    await 30 aoeping -s 2 1 1 v2
    verified "target found over the link that was down"
    verify_mounted "$AOE" data /run/reference
    verified "data equal after remount"
    rmmod aoe
    stop "$1" 20
}

step lossy_1500 200 lossy lossy_1500 1500 8M
step lossy_9000 200 lossy lossy_9000 9000 32M
step pulled 240 pulled pulled
step back 60 back pulled
