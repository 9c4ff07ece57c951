# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# libiscsi's test suite and sg3_utils on disks of the daemon. Each route of the suite has a disk of
# its own, which its tests write to and reserve, so that the routes run at the same time.

. "$CHECKOUT/tests/kernel/guest/scsi.sh"
. "$CHECKOUT/tests/kernel/guest/sg3_utils.sh"

DISK_BYTES=$((64 << 20))
# WriteSame16.Unmap reads 65536 blocks at once where there are so many, more than a node takes.
SMALL_BYTES=$((31 << 20))
# The longest test takes some twenty seconds on idle processors.
TEST_DEADLINE_S=180
# ONLY_OVER_ISCSI names the tests that are to run over iSCSI; without names, they all are.
# What cannot be tested over a route; `conformance_expected.py` says why.
NOT_OVER_SG="Sanitize.OverwriteReserved"
NOT_OVER_ISCSI="PreventAllow.ITNexusLoss PreventAllow.Logout Reserve6.ITNexusLoss Reserve6.Logout
    Sanitize.Reservations Sanitize.Reset"
CONF=/run/scst.conf

# disk NAME NAA BYTES [LINE...]: a section of the configuration. EXTENDED COPY names disks by
# designators of up to 20 bytes. Physical blocks are no larger than logical ones, since
# GetLBAStatus.UnmapSingle expects of larger ones that GET LBA STATUS begins where it was not asked.
disk() {
    truncate -s "$3" "/run/$1.img"
    printf '%s\n' "DEVICE $1 {" "filename /run/$1.img" "thin_provisioned 1" "removable 1" \
        "naa_id $2" "lb_per_pb_exp 0" "atomic_journal /run/$1.journal" "${@:4}" "}"
}

# target NAME DISK...: a way to disks, the Nth of which is LUN N - 1.
target() {
    local lun=0 disk
    printf '%s\n' "TARGET $1 {" "kernel 1" "enabled 1"
    for disk in "${@:2}"; do
        echo "LUN $lun $disk"
        lun=$((lun + 1))
    done
    echo "}"
}

# zero_block ROUTE LBA: behind the back of the daemon, which keeps no blocks of its own.
zero_block() {
    local -A image=([sg]=paths [iscsi]=iscsi)
    dd if=/dev/zero of="/run/${image[$1]}.img" bs=512 seek="$2" count=1 conv=notrunc status=none
}

start() {
    mount -t configfs none /sys/kernel/config
    mkdir -p /run/scst-bridge
    {
        echo "HANDLER vdisk_fileio {"
        disk paths 0x3000000000000001 "$SMALL_BYTES"
        disk iscsi 0x3000000000000002 "$DISK_BYTES"
        # The suite's tool has room for the usage data of 16 bytes of a CDB.
        disk tools 0x3000000000000003 "$DISK_BYTES" "long_cdbs 1"
        disk other 0x3000000000000004 "$DISK_BYTES"
        printf '%s\n' "}" "TARGET_DRIVER scst_local {" "socket /run/scst-bridge/local.sock"
        target path0 paths
        target path1 paths
        target iscsi0 iscsi
        target iscsi1 iscsi
        target tool0 tools other
        target tool1 tools
        echo "}"
    } >"$CONF"
    serve daemon "$CONF"
}

suite() {
    local first second
    first=$(sg_of path0)
    second=$(sg_of path1)
    export_iscsi iscsi0 iscsi1
    run_tests sg "$NOT_OVER_SG" "$first" "$second" &
    ONLY=$ONLY_OVER_ISCSI run_tests iscsi "$NOT_OVER_ISCSI" "$ISCSI_URL" "$ISCSI_URL" &
    wait -n
    wait -n
    unexport_iscsi
    verified "routes ended"
}

step start 90 start
step suite 900 suite
FIRST=$(sg_of tool0) SECOND=$(sg_of tool1) OTHER=$(sg_of tool0 1)
sg3_utils
step daemon_stop 60 stop daemon 30
