#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# Process 1 of the guest: makes the host's root file system usable, runs the script, powers off.
# Any failure here ends process 1, the kernel panics, and the harness shows the console.
set -eu
. /settings
busybox() { /bin/busybox "$@"; }

busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs devtmpfs /dev
# Drivers log every error to the serial console, which is slow enough to distort the tests.
busybox dmesg -n 1

while read -r module; do
    busybox insmod "/modules/$module"
done </modules/order

nine_p="trans=virtio,version=9p2000.L,msize=512000"
# The host's files do not change under a test: cache names and data, or Python starts slowly.
busybox mount -t 9p -o "$nine_p,ro,cache=loose" host /host
busybox mount --bind /host /root
for folder in proc sys dev; do
    busybox mount --bind "/$folder" "/root/$folder"
done
busybox mkdir -p /dev/pts /dev/shm
busybox mount -t devpts devpts /root/dev/pts
busybox mount -t tmpfs tmpfs /root/dev/shm
busybox mount -t tmpfs tmpfs /root/tmp
busybox mount -t tmpfs tmpfs /root/run
busybox chmod 1777 /root/tmp /root/dev/shm
for link in fd:fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do
    busybox ln -s "/proc/self/${link#*:}" "/dev/${link%:*}"
done

# The new /tmp, /run and /dev hide whatever the host keeps below them.
for kept in "$CHECKOUT" "$KERNEL_ROOT"; do
    if [ ! -e "/root$kept" ]; then
        busybox mkdir -p "/root$kept"
        busybox mount --bind "/host$kept" "/root$kept"
    fi
done
busybox mkdir -p "/root$SHARE"
# No cache: what the guest wrote is on the host even if the guest dies next.
busybox mount -t 9p -o "$nine_p,cache=none" share "/root$SHARE"

busybox ip link set lo up
for module in $MODULES; do
    /sbin/modprobe "$module"
done

status=0
busybox env -i \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/tmp TMPDIR=/tmp LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 \
    CHECKOUT="$CHECKOUT" SHARE="$SHARE" \
    KERNEL_ROOT="$KERNEL_ROOT" KERNEL_RELEASE="$KERNEL_RELEASE" \
    /bin/busybox chroot /root /bin/bash -eu -c '. "$1"; . "$2"' \
    guest "$CHECKOUT/tests/kernel/guest/prelude.sh" "$SHARE/script" \
    </dev/null >"/root$SHARE/stdout" 2>"/root$SHARE/stderr" || status=$?
echo "$status" >"/root$SHARE/status"
# -n: no sync, which would wait for ever for a device whose server is gone.
busybox poweroff -n -f
