#!/usr/bin/env bash
# Counts the instructions of 64-bit ARM for a token or a frame, ours and llama.cpp's, in qemu.
#
#   [LLAMA_CPP=FOLDER] [PUPIL=FILE] [PROMPT=N] [DECODE=N] [CPUS=NAMES] cross/instructions.sh MODEL…
#
# Models are GGUF files of language models, or of detectors, which llama.cpp has no counterpart of. It needs what
# cross/setup.sh aarch64 installs, and cc for the plugin that counts (instructions/count.c; qemu 5 to 8). LLAMA_CPP is a
# folder of llama.cpp's sources: they are built for each CPU's instructions, which needs cmake, ninja and
# g++-aarch64-linux-gnu; without it only ours is counted. PUPIL is the program if it has been built already. CPUS are some
# of qemu's CPUs that are listed below.
#
# Each number is a difference of two runs that do the same but for what is counted, so starting up cancels out.
set -euo pipefail
source "$(dirname "$0")/targets.sh"
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || fail "expected models"
use_target aarch64
prompt=${PROMPT:-128} decode=${DECODE:-16}
work=$(realpath -m "${CARGO_TARGET_DIR:-target}")/instructions
mkdir -p "$work"
cc -O2 -shared -fPIC -o "$work/libcount.so" cross/instructions/count.c

if [ -z "${PUPIL:-}" ]; then
    cross/build.sh aarch64 --static >&2
    PUPIL=${CARGO_TARGET_DIR:-target}/$triple/dist/pupil
fi

# What each of qemu's CPUs has, as gcc calls it.
declare -A arch=([cortex-a72]=armv8-a [cortex-a76]=armv8.2-a+dotprod+fp16 [max]=armv8.2-a+dotprod+fp16+i8mm)
read -ra cpus <<<"${CPUS:-cortex-a72 cortex-a76 max}"

# llama CPU: builds llama.cpp for a CPU, and the program of instructions/llama.c with it.
llama() {
    local built=$work/llama-$1
    [ ! -x "$built/driver" ] || return 0
    cmake -S "$LLAMA_CPP" -B "$built" -G Ninja -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
        -DCMAKE_C_COMPILER=$gnu-gcc -DCMAKE_CXX_COMPILER=$gnu-g++ -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF \
        -DGGML_NATIVE=OFF -DGGML_CPU_ARM_ARCH="${arch[$1]}" -DGGML_OPENMP=OFF -DLLAMA_CURL=OFF -DLLAMA_BUILD_COMMON=OFF \
        -DLLAMA_BUILD_{TOOLS,EXAMPLES,TESTS,SERVER}=OFF
    # What depends on the CPU is in ggml alone: the rest is built once.
    local library=$built/src/libllama.a other
    ninja -C "$built" ggml
    for other in "$work"/llama-*/src/libllama.a; do
        [ ! -e "$other" ] || library=$other
    done
    [ -e "$library" ] || ninja -C "$built" llama
    $gnu-gcc -O2 -c -I "$LLAMA_CPP/include" -I "$LLAMA_CPP/ggml/include" -o "$work/llama.o" cross/instructions/llama.c
    $gnu-g++ -static -o "$built/driver" "$work/llama.o" "$library" "$built"/ggml/src/libggml{,-cpu,-base}.a
}
if [ -n "${LLAMA_CPP:-}" ]; then
    for cpu in "${cpus[@]}"; do llama "$cpu" >&2; done
fi

# count COMMAND…: the instructions that it executes on $cpu.
count() {
    "$qemu" -cpu "$cpu" -plugin "$work/libcount.so" -d plugin -D "$work/count" "$@" >/dev/null
    cat "$work/count"
}

# Programs that read a prompt, then single tokens: MODEL DECODE REPS.
ours() { count "$PUPIL" bench --model "$1" --threads 1 --prompt "$prompt" --decode "$2" --reps "$3"; }
theirs() { count "$work/llama-$cpu/driver" "$1" "$prompt" "$2" "$3"; }

# tokens PROGRAM MODEL: instructions for a token of the prompt, and for a decoded one. Before its repetitions a program
# reads the prompt and decodes at most 4 tokens.
tokens() {
    local once twice more each
    once=$("$@" 4 1) twice=$("$@" 4 2) more=$("$@" $((4 + decode)) 1)
    each=$(((more - once) / decode))
    echo $(((twice - once - 4 * each) / prompt)) $each
}

# row MODEL CPU {OURS THEIRS}…: a line of the table, in millions.
row() {
    awk 'BEGIN {
        printf "| %s | %s |", ARGV[1], ARGV[2]
        for (i = 3; i < ARGC; i += 2) {
            if (ARGV[i + 1] == "-") printf " %.2f |", ARGV[i] / 1e6
            else printf " %.2f, %.2f | %.2f |", ARGV[i] / 1e6, ARGV[i + 1] / 1e6, ARGV[i + 1] / ARGV[i]
        }
        print ""
    }' "$@"
}

language() {
    local model=$1 prefill decoded other_prefill=- other_decoded=-
    read -r prefill decoded < <(tokens ours "$model")
    if [ -n "${LLAMA_CPP:-}" ]; then
        read -r other_prefill other_decoded < <(tokens theirs "$model")
    fi
    row "$(basename "$model" .gguf)" "$cpu" "$prefill" "$other_prefill" "$decoded" "$other_decoded"
}

frame() { count "$PUPIL" bench --model "$1" --threads 1 --reps "$2"; }

detector() {
    row "$(basename "$1" .gguf)" "$cpu" $(($(frame "$1" 2) - $(frame "$1" 1))) -
}

echo 'Millions of instructions: for a token of the prompt and a decoded one (ours, llama.cpp'"'"'s, the ratio), or for a frame.'
for model; do
    for cpu in "${cpus[@]}"; do
        if grep -qa convnet <(head -c 65536 "$model"); then detector "$model"; else language "$model"; fi
    done
done
