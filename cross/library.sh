#!/usr/bin/env bash
# Links the shared C library, and lays out what programs are built with as it is installed.
#
#   cross/library.sh ARCHIVE FOLDER COMPILER
#
# ARCHIVE is the libpupil.a that cargo made. FOLDER gets include/ and lib/, with a file for pkg-config, and may be copied to
# /usr/local or anywhere else. rustc does not link the library, because its own list of what one exports leaves no room for
# versions of symbols.
set -euo pipefail
[ $# = 3 ] || { echo "library.sh: expected an archive, a folder and a C compiler" >&2; exit 1; }
archive=$1 folder=$2 compiler=$3 root=$(dirname "$0")/..

# field NAME: the first of that name in Cargo.toml.
field() { sed -n "0,/^$1 = \"\(.*\)\"\$/s//\1/p" "$root/Cargo.toml"; }
version=$(field version) description=$(field description)
# What its name and its symbols carry: before 1.0 a minor version may change what there is, later only a major one.
abi=${version%.*}
[[ $abi = 0.* ]] || abi=${abi%.*}
soname=libpupil.so.$abi

mkdir -p "$folder"/include "$folder"/lib/pkgconfig
cp "$root/cross/include/pupil.h" "$folder/include"
cp "$archive" "$folder/lib/libpupil.a"
"$compiler" -shared -s -o "$folder/lib/$soname" -Wl,-soname,"$soname" -Wl,--version-script=/dev/stdin -Wl,--gc-sections \
    -Wl,--whole-archive "$archive" -Wl,--no-whole-archive -lpthread -ldl -lm -lgcc_s \
    <<<"PUPIL_$abi { global: pupil_*; local: *; };"
ln -sf "$soname" "$folder/lib/libpupil.so"
cat >"$folder/lib/pkgconfig/pupil.pc" <<END
prefix=\${pcfiledir}/../..

Name: pupil
Description: $description
Version: $version
Libs: -L\${prefix}/lib -lpupil
Libs.private: -lpthread -ldl -lm -lgcc_s
Cflags: -I\${prefix}/include
END
