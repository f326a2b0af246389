#!/usr/bin/env bash
# older_libraries.sh FOLDER: unpacks the C and C++ libraries of Debian 11 (glibc 2.31, libstdc++ 10) into FOLDER, to link
# against, from the mirror that apt is set up with. What is linked against them starts on systems of that age and later;
# packaging/build_wheel.py checks which those are.
set -euo pipefail

folder=$(realpath -m "$1")
release=bullseye
packages="libc6 libc6-dev libstdc++6 libstdc++-10-dev libgcc-s1 libgcc-10-dev libcrypt1"
[ -e "$folder/complete" ] && exit 0

rm -rf "$folder"
mkdir -p "$folder/root" "$folder/apt/lists/partial" "$folder/apt/archives/partial" "$folder/apt/empty"
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | sed -n '\|/debian/*$|p' | head -n 1)
[ -n "$mirror" ] || { echo "apt has no mirror of Debian that could be asked for $release" >&2; exit 1; }
echo "deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release main" >"$folder/apt/sources.list"
apt() {
  apt-get -qq -o Dir::Etc::SourceList="$folder/apt/sources.list" -o Dir::Etc::SourceParts="$folder/apt/empty" \
    -o Dir::State::Lists="$folder/apt/lists" -o Dir::State::Status=/dev/null -o Dir::Cache::Archives="$folder/apt/archives" \
    -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root "$@"
}
apt update
(cd "$folder/apt/archives" && apt download $packages)
for package in "$folder"/apt/archives/*.deb; do dpkg-deb --extract "$package" "$folder/root"; done
# The linker's script for libc.so names its parts by absolute path, which it looks for below the sysroot; links do not.
find "$folder/root" -type l -lname '/*' | while read -r link; do ln -sfn "$folder/root$(readlink "$link")" "$link"; done
rm -rf "$folder/apt"
touch "$folder/complete"
