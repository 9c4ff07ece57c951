# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# The daemon's disks as SCSI devices of the guest, and the kernel's iSCSI target in front of one.

. "$CHECKOUT/tests/kernel/guest/bridge.sh"

TARGET_CORE=/sys/kernel/config/target
PORTAL=127.0.0.1:3260
ISCSI_NAME=iqn.2000-01.org.example:disk
ISCSI_URL=iscsi://$PORTAL/$ISCSI_NAME/0
# What iscsi-test-cu calls itself, for its first and its second session.
INITIATORS=(iqn.2007-10.com.github:sahlberg:libiscsi:iscsi-test{,-2})

# device_of TARGET [LUN]: the TCMU device of a LUN, in configfs.
device_of() {
    readlink -f "$(link_of "$@")"
}

# link_of TARGET [LUN]: the link in configfs by which tcm_loop's port leads to that device.
link_of() {
    local link
    for link in "$TARGET_CORE"/loopback/*/tpgt_1/lun/*/*; do
        if [[ -L $link && $(readlink "$link") == */"$1.${2:-0}" ]]; then
            echo "$link"
            return
        fi
    done
    echo "$1: no LUN ${2:-0} in $TARGET_CORE/loopback" >&2
    return 1
}

# sg_of TARGET [LUN]: the generic node of a LUN.
sg_of() {
    local link address
    link=$(link_of "$@")
    address=$(<"${link%/lun/*/*}/address")
    echo "/dev/$(ls "/sys/class/scsi_device/$address:${2:-0}/device/scsi_generic")"
}

# export_iscsi TARGET...: one iSCSI target, of which the Nth of INITIATORS reaches LUN 0 of the Nth
# TARGET, as LUN 0. So the device server can tell the initiators apart.
export_iscsi() {
    local port=$TARGET_CORE/iscsi/$ISCSI_NAME/tpgt_1 number=0 acl target
    mkdir -p "$port/np/$PORTAL"
    for target in "$@"; do
        acl=$port/acls/${INITIATORS[number]}/lun_0
        mkdir -p "$port/lun/lun_$number" "$acl"
        ln -s "$(device_of "$target")" "$port/lun/lun_$number/device"
        ln -s "$port/lun/lun_$number" "$acl/lun"
        echo 0 >"$acl/write_protect"
        number=$((number + 1))
    done
    echo 0 >"$port/attrib/authentication"
    echo 1 >"$port/enable"
}

# unexport_iscsi: let go of the devices, so that the daemon can remove them.
unexport_iscsi() {
    local port=$TARGET_CORE/iscsi/$ISCSI_NAME/tpgt_1
    echo 0 >"$port/enable"
    rm "$port"/acls/*/lun_0/lun
    rmdir "$port"/acls/*/lun_0 "$port"/acls/*
    rm "$port"/lun/*/device
    rmdir "$port"/lun/* "$port/np/$PORTAL" "$port" "${port%/*}"
}

# hear_attentions DEVICE...: take the unit attentions of those that are nodes here.
hear_attentions() {
    local device
    for device in "$@"; do
        [[ ! -c $device ]] || await 10 sg_turs "$device" 2>/dev/null
    done
}

# run_tests ROUTE EXCLUDED DEVICE...: every test of the family SCSI but those in EXCLUDED, each in a
# process of its own, on a device and on another path to it. Their results go to
# $SHARE/results/ROUTE, which `conformance.py` reads. Where ONLY names tests, the others are excluded.
run_tests() {
    local route=$1 excluded test begin status output
    excluded=" $(xargs <<<"$2") "
    shift 2
    mkdir -p "$SHARE/results"
    # A write to the share is slow, and the tool makes one for each line.
    while read -r test; do
        if [[ $excluded == *" ${test#SCSI.} "* ]] ||
            [[ -n ${ONLY-} && " $ONLY " != *" ${test#SCSI.} "* ]]; then
            echo "==> $test - 0.000"
            continue
        fi
        # What earlier tests did is told to each path; the tool listens on the first one only.
        [[ $test != *.MultipathIO.* ]] || hear_attentions "$@"
        # libiscsi 1.19 compares with zeros one block more than it has zeroed, number 256.
        [[ $test != *.MultipathIO.CompareAndWrite ]] || zero_block "$route" 256
        begin=$EPOCHREALTIME
        status=0
        output=$(timeout -k 5 "$TEST_DEADLINE_S" \
            iscsi-test-cu --dataloss --allow-sanitize --test="$test" "$@" 2>&1) || status=$?
        printf '==> %s %s %s\n%s\n' "$test" "$status" "$(duration_s "$begin")" "$output"
    done < <(iscsi-test-cu --list | grep '^SCSI\.[^.]*\.') >"$SHARE/results/$route"
}
