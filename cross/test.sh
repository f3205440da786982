#!/usr/bin/env bash
# Runs the tests of the runtime under qemu: on each CPU those of what it computes, kernels and whole models, and checks that it
# runs the kernels that it should; on the last CPU all of them, and then those of the program.
#
#   cross/test.sh aarch64|armv7 [CPU…]
#
# CPUs are qemu's names. As a device does, the tests do without ONNX, training and the crate tokenizers; examples in the
# documentation are left to the machine that builds.
set -euo pipefail
source "$(dirname "$0")/targets.sh"
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || fail "expected a target: aarch64 or armv7"
use_target "$1"
shift
case $target in
    # Raspberry Pi 3 and Zero 2 W; 4; 5 and, as qemu 7 knows no A78, Jetson Orin; all that qemu knows.
    aarch64) [ $# -gt 0 ] || set -- cortex-a53 cortex-a72 cortex-a76 max ;;
    # Raspberry Pi 2.
    armv7) [ $# -gt 0 ] || set -- cortex-a7 ;;
    *) fail "$target needs no qemu: cargo test" ;;
esac
command -v "$qemu" >/dev/null || fail "no $qemu: install it, or run cross/setup.sh $target"

# What says nothing about a CPU, and takes minutes in an emulator: how time and memory grow, damaged files, and the words of
# errors.
elsewhere=(long_lines_take_no_more_time_than_short_ones unigram_takes_linear_time memory_does_not_grow_with_the_text
    flipped_bytes numbers_that_make_no_sense)
skip=("${elsewhere[@]/#/--skip=}")
computed=(--lib --test chat --test detect --test logits --test stories --test t5 --test translate)

for cpu; do
    case $cpu in
        cortex-a7) isas=portable ;;
        cortex-a53 | cortex-a72) isas=portable,neon ;;
        cortex-a76) isas=portable,neon,dotprod ;;
        max) isas=portable,neon,dotprod,i8mm ;;
        *) fail "'$cpu': which kernels should run there? cross/test.sh has a list" ;;
    esac
    [ $target != armv7 ] || isas=portable
    printf '\n== %s on %s: %s\n' "$target" "$cpu" "$isas"
    tests=("${computed[@]}")
    [ "$cpu" != "${!#}" ] || tests=(--tests)
    QEMU_CPU=$cpu PUPIL_EXPECT_ISA=$isas cargo test --locked --package pupil "${tests[@]}" --no-fail-fast \
        --no-default-features --features image,convert -- "${skip[@]}"
done

printf '\n== the program, %s on %s\n' "$target" "$cpu"
QEMU_CPU=$cpu cargo test --locked --package pupil-cli --tests --no-fail-fast --no-default-features \
    --features chat,translate,detect,bundled -- "${skip[@]}"
