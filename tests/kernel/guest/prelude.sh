# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# The vocabulary of the guest's scripts: modules, deadlines, background programs, steps, ext4.
# $SHARE is the folder that reaches the host, $CHECKOUT the project.

# load MODULE [PARAMETER...]: Debian's module for the kernel that runs.
load() {
    modprobe -d "$KERNEL_ROOT" -S "$KERNEL_RELEASE" "$@"
}

# await DEADLINE_S COMMAND...: poll until COMMAND succeeds.
await() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        if ((SECONDS > deadline)); then
            echo "waited in vain for: $*" >&2
            return 1
        fi
        sleep 0.1
    done
}

# verified TEXT: a fact that the test asks for; print it after the commands that prove it.
verified() {
    echo "verified: $*"
}

# spawn NAME COMMAND...: run in the background, in a session of its own so that it outlives the
# step it was started in; its output goes to $SHARE/NAME.log, and `stop` ends it. NAME is new.
spawn() {
    local name=$1
    shift
    # shellcheck disable=SC2016  # expanded by the inner shells
    setsid bash -c '
        name=$1; shift
        status=0
        bash -c '\''echo $$ >"$0"; exec "$@"'\'' "/run/$name.pid" "$@" || status=$?
        echo "$status" >"/run/$name.status"
    ' spawn "$name" "$@" </dev/null >"$SHARE/$name.log" 2>&1 &
}

# await_line NAME DEADLINE_S WORD: until NAME's log has WORD; fails at once if NAME ended instead.
await_line() {
    await "$2" log_has_or_ended "$1" "$3"
    if [[ -e /run/$1.status ]]; then
        echo "$1 ended with $(<"/run/$1.status"):" >&2
        cat "$SHARE/$1.log" >&2
        return 1
    fi
}

log_has_or_ended() {
    [[ -e /run/$1.status ]] || grep -qsw "$2" "$SHARE/$1.log"
}

# stop NAME DEADLINE_S: SIGTERM; fails unless NAME then ends with status 0.
stop() {
    kill -TERM "$(<"/run/$1.pid")"
    await "$2" test -s "/run/$1.status"
    if [[ $(<"/run/$1.status") != 0 ]]; then
        echo "$1 ended with $(<"/run/$1.status"):" >&2
        cat "$SHARE/$1.log" >&2
        return 1
    fi
    verified "$1 ended"
}

# step NAME DEADLINE_S FUNCTION [ARGUMENT...]: run FUNCTION under set -e and record its output,
# status and duration. A step that fails or overruns does not stop the script: each is one test.
step() {
    local folder=$SHARE/steps/$1 deadline=$((SECONDS + $2)) begin=$EPOCHREALTIME
    shift 2
    mkdir -p "$folder"
    : >"$folder/output"
    set -m # a process group of its own, so that all of it can be killed
    (
        set +e
        (
            set -eE
            # shellcheck disable=SC2154  # assigned in the trap itself
            trap 'status=$?; echo "${BASH_SOURCE[0]##*/}:$LINENO: exit $status: $BASH_COMMAND" >&2' ERR
            "$@"
        )
        echo $? >"$folder/status"
    ) </dev/null >"$folder/output" 2>&1 &
    set +m
    # Not `wait`: a process stuck in a dead device cannot be killed, so it might never return.
    until [[ -s $folder/status ]] || ((SECONDS > deadline)); do
        sleep 0.1
    done
    duration_s "$begin" >"$folder/duration_s"
    if [[ -s $folder/status ]]; then
        echo "${folder##*/}: exit $(<"$folder/status")"
    else
        kill -KILL -- "-$!" || true
        echo "${folder##*/}: overran its deadline" | tee -a "$folder/output"
    fi
}

# duration_s BEGIN: seconds since BEGIN, a value that EPOCHREALTIME had.
duration_s() {
    local us=$((${EPOCHREALTIME/./} - ${1/./}))
    printf '%d.%03d\n' $((us / 1000000)) $((us / 1000 % 1000))
}

# forget_caches DEVICE: what is read next comes from the server.
forget_caches() {
    blockdev --flushbufs "$1"
    echo 3 >/proc/sys/vm/drop_caches
}

# mount_at DEVICE FOLDER
mount_at() {
    mkdir -p "$2"
    mount -t ext4 "$1" "$2"
}

# random_file PATH [SIZE]: 32 MiB, or SIZE, that no earlier step can have written.
random_file() {
    head -c "${2:-32M}" /dev/urandom >"$1"
}

# make_and_fill DEVICE REFERENCE: a new ext4 that holds a copy of REFERENCE as /data; unmounted.
make_and_fill() {
    mkfs.ext4 -q -F "$1"
    mount_at "$1" "/run/mnt"
    cp "$2" /run/mnt/data
    umount /run/mnt
}

# verify_unmounted DEVICE: e2fsck finds nothing to mend on what the server now holds.
verify_unmounted() {
    forget_caches "$1"
    e2fsck -f -n "$1"
}

# verify_mounted DEVICE FILE REFERENCE: FILE on the device still is REFERENCE.
verify_mounted() {
    forget_caches "$1"
    mount_at "$1" /run/mnt
    cmp "/run/mnt/$2" "$3"
    umount /run/mnt
}

# verify_backing IMAGE REFERENCE: the server's file itself holds the file system and the data.
verify_backing() {
    e2fsck -f -n "$1"
    debugfs -R "cat /data" "$1" 2>/dev/null | cmp - "$2"
}

# exercise_ext4 DEVICE IMAGE [SIZE]: the round trip that each transport must survive; IMAGE is the
# file behind it, SIZE that of the data.
exercise_ext4() {
    random_file /run/reference "${3:-32M}"
    make_and_fill "$1" /run/reference
    verify_unmounted "$1"
    verified "fsck clean"
    verify_mounted "$1" data /run/reference
    verified "data equal after remount"
    verify_backing "$2" /run/reference
    verified "backing file equal"
}
