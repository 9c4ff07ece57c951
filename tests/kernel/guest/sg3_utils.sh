# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# sg3_utils on the generic nodes $FIRST and $SECOND, two ways to one disk, and $OTHER, another disk
# that the initiator of $FIRST has.
# What the programs must say is in `sg3_utils_expected.py`.

BLOCK_BYTES=512
# What sg3_utils exit with (sg3_utils(8)).
ILLEGAL_REQUEST=5
MISCOMPARE=14
OUT_OF_RANGE=22
CONFLICT=24

# says COMMAND...: run it, and print its name first.
says() {
    echo "\$ ${*##*/}"
    "$@" 2>&1
}

# ends STATUS COMMAND...: run it; it must exit with STATUS.
ends() {
    local expected=$1 status=0
    shift
    says "$@" || status=$?
    if ((status != expected)); then
        echo "exit $status, expected $expected: $*"
        return 1
    fi
}

# differs COMMAND...: it must fail; an exclamation mark would be overlooked by `set -e`.
differs() {
    if "$@"; then
        return 1
    fi
}

# blocks_of DEVICE LBA COUNT: their data, past every cache.
blocks_of() {
    sg_dd if="$1" bs="$BLOCK_BYTES" skip="$2" count="$3" of=- verbose=-1 2>/dev/null
}

# fill DEVICE LBA COUNT: random data, which are in /run/filled too.
fill() {
    head -c "$(($3 * BLOCK_BYTES))" /dev/urandom >/run/filled
    sg_dd if=/run/filled of="$1" bs="$BLOCK_BYTES" seek="$2" count="$3" 2>/dev/null
}

# zeros COUNT
zeros() {
    head -c "$(($1 * BLOCK_BYTES))" /dev/zero
}

# identify: what the disk says of itself.
identify() {
    # The kernel tells of LUNs that came after the first one.
    await 10 sg_turs "$FIRST"
    says sg_inq "$FIRST"
    says sg_inq --descriptors "$FIRST"
    says sg_turs "$FIRST"
    says sg_readcap --long "$FIRST"
    says sg_luns "$FIRST"
}

vital_product_data() {
    says sg_vpd --all "$FIRST"
}

mode_pages() {
    says sg_modes --all "$FIRST"
    says sg_modes --all --six "$FIRST"
}

# The write cache, off and on again.
mode_select() {
    says sg_wr_mode --page=8 --contents=8,12,0 --mask=ff,ff,4 "$FIRST"
    says sg_modes --page=8 --control=0 "$FIRST"
    says sg_wr_mode --page=8 --contents=8,12,4 --mask=ff,ff,4 "$FIRST"
    says sg_modes --page=8 --control=0 "$FIRST"
}

opcodes() {
    says sg_opcodes --rctd "$FIRST"
    says sg_opcodes --opcode=0x2a "$FIRST"
    says sg_opcodes --opcode=0x9e,0x12 "$FIRST"
    says sg_opcodes --opcode=0xc0 "$FIRST"
    says sg_opcodes --tmf "$FIRST"
}

logs() {
    says sg_logs --all "$FIRST"
}

target_port_groups() {
    says sg_rtpg --decode "$FIRST"
    says sg_rtpg --decode --extended "$FIRST"
}

lba_status() {
    sg_unmap --force --lba=0 --num=4096 "$FIRST"
    fill "$FIRST" 1024 1024
    says sg_get_lba_status --brief --maxlen=88 --lba=0 "$FIRST"
    says sg_get_lba_status --brief --maxlen=88 --lba=1500 "$FIRST"
}

unmap() {
    fill "$FIRST" 0 2048
    says sg_unmap --force --lba=0,1024 --num=512,8 "$FIRST"
    cmp <(blocks_of "$SECOND" 0 512) <(zeros 512)
    cmp <(blocks_of "$SECOND" 1024 8) <(zeros 8)
    cmp <(blocks_of "$SECOND" 512 512) <(tail -c +$((512 * BLOCK_BYTES + 1)) /run/filled | head -c $((512 * BLOCK_BYTES)))
    verified "unmapped blocks are zeros, their neighbours as before"
    # One past the last block.
    ends "$OUT_OF_RANGE" sg_unmap --force --lba=$((DISK_BYTES / BLOCK_BYTES)) --num=1 "$FIRST"
}

write_same() {
    fill "$FIRST" 0 1024
    head -c "$BLOCK_BYTES" /dev/urandom >/run/block
    says sg_write_same --10 --in=/run/block --lba=8 --num=3 "$FIRST"
    cmp <(blocks_of "$SECOND" 8 3) <(cat /run/block /run/block /run/block)
    says sg_write_same --16 --in=/run/block --lba=100 --num=2 "$FIRST"
    cmp <(blocks_of "$SECOND" 100 2) <(cat /run/block /run/block)
    verified "blocks are the same"
    says sg_write_same --16 --ndob --lba=200 --num=16 "$FIRST"
    cmp <(blocks_of "$SECOND" 200 16) <(zeros 16)
    says sg_write_same --unmap --lba=512 --num=512 "$FIRST"
    cmp <(blocks_of "$SECOND" 512 512) <(zeros 512)
    verified "without data they are zeros"
}

compare_and_write() {
    fill "$FIRST" 64 1
    head -c "$BLOCK_BYTES" /dev/urandom >/run/new
    says sg_compare_and_write --inc=/run/filled --inw=/run/new --lba=64 "$FIRST"
    cmp <(blocks_of "$SECOND" 64 1) /run/new
    verified "written where equal"
    ends "$MISCOMPARE" sg_compare_and_write --inc=/run/filled --inw=/run/filled --lba=64 "$SECOND"
    cmp <(blocks_of "$FIRST" 64 1) /run/new
    verified "left where not"
}

verify_medium() {
    fill "$FIRST" 0 16
    says sg_verify --lba=0 --count=16 "$FIRST"
    says sg_verify --16 --lba=0 --count=16 --ndo=$((16 * BLOCK_BYTES)) --in=/run/filled "$FIRST"
    ends "$MISCOMPARE" sg_verify --lba=1 --count=15 --ndo=$((15 * BLOCK_BYTES)) --in=/run/filled "$FIRST"
    says sg_sync "$FIRST"
    says sg_sync --16 --lba=8 --count=8 "$FIRST"
}

reservations() {
    says sg_persist --in --report-capabilities "$FIRST"
    says sg_persist --out --register --param-sark=a1 "$FIRST"
    says sg_persist --out --register --param-sark=b2 "$SECOND"
    says sg_persist --in --read-keys "$FIRST"
    # 5: write exclusive, registrants only; 3: exclusive access.
    says sg_persist --out --reserve --param-rk=a1 --prout-type=3 "$FIRST"
    says sg_persist --in --read-reservation "$SECOND"
    ends "$CONFLICT" sg_persist --out --reserve --param-rk=b2 --prout-type=3 "$SECOND"
    ends "$CONFLICT" sg_verify --count=1 "$SECOND"
    says sg_persist --out --preempt --param-rk=b2 --param-sark=a1 --prout-type=5 "$SECOND"
    says sg_persist --in --read-full-status "$SECOND"
    says sg_persist --out --release --param-rk=b2 --prout-type=5 "$SECOND"
    says sg_persist --out --clear --param-rk=b2 "$SECOND"
    says sg_persist --in --read-keys "$SECOND"
    sg_turs "$FIRST" || says sg_turs "$FIRST"
}

buffers() {
    head -c 256 /dev/urandom >/run/echo
    says sg_write_buffer --mode=echo --in=/run/echo --length=256 "$FIRST"
    # READ BUFFER, mode Ah, 256 bytes; Debian's sg_read_buffer asks for none, whatever --length says.
    says sg_raw --request=256 --outfile=/run/echoed "$FIRST" 3c 0a 00 00 00 00 00 01 00 00
    cmp /run/echo /run/echoed
    verified "echoed"
}

diagnostics() {
    says sg_senddiag --test "$FIRST"
    says sg_senddiag --list "$FIRST"
    says sg_requests "$FIRST"
    says sg_requests --desc "$FIRST"
}

medium_removal() {
    says sg_prevent "$FIRST"
    ends "$ILLEGAL_REQUEST" sg_start --eject "$SECOND"
    says sg_prevent --allow "$FIRST"
    says sg_start --stop "$FIRST"
    says sg_start --start "$FIRST"
    says sg_turs "$FIRST"
}

xcopy() {
    fill "$FIRST" 128 2048
    sg_unmap --force --lba=0 --num=8192 "$OTHER"
    says sg_xcopy if="$FIRST" skip=128 of="$OTHER" seek=4096 count=2048 bs="$BLOCK_BYTES"
    cmp <(blocks_of "$OTHER" 4096 2048) /run/filled
    verified "copied to another disk"
    says sg_xcopy if="$FIRST" skip=128 of="$FIRST" seek=8192 count=2048 bs="$BLOCK_BYTES"
    cmp <(blocks_of "$SECOND" 8192 2048) /run/filled
    verified "copied on the disk"
    says sg_copy_results --params "$FIRST"
}

sanitize() {
    fill "$FIRST" 0 64
    says sg_sanitize --overwrite --zero --quick --wait "$FIRST"
    cmp <(blocks_of "$SECOND" 0 64) <(zeros 64)
    fill "$FIRST" 0 64
    says sg_sanitize --block --quick --wait "$FIRST"
    differs cmp -s <(blocks_of "$SECOND" 0 64) /run/filled
    verified "nothing is left"
}

format() {
    fill "$FIRST" 0 64
    says sg_format --format --quick --wait "$FIRST"
    differs cmp -s <(blocks_of "$SECOND" 0 64) /run/filled
    verified "nothing is left"
}

# sg3_utils: all of it, with FIRST, SECOND and OTHER set.
sg3_utils() {
    local name
    for name in identify vital_product_data mode_pages mode_select opcodes logs \
        target_port_groups lba_status unmap write_same compare_and_write verify_medium \
        reservations buffers diagnostics medium_removal xcopy sanitize format; do
        step "$name" 60 "$name"
    done
}
