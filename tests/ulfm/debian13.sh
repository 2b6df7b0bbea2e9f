#!/usr/bin/env bash
# debian13.sh FOLDER: runs the tests with label ulfm, which need the Open MPI 5 of Debian 13, in a root
# of that system below FOLDER, which is made with debootstrap and kept for the next time. Builds no more
# of this tree than those tests need. Mounts live in a namespace of their own that ends with each command,
# so that none is ever left behind. Status 77, with the reason, where such a root cannot be made.
set -euo pipefail
exec </dev/null

tree="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)"
readonly tree
readonly folder="$1" root="$1/root"
readonly reach_seconds_max=20 # to find out whether packages can be had
readonly packages=(
  g++ cmake ninja-build ccache pkg-config python3 iproute2 iputils-ping
  openmpi-bin libopenmpi-dev libhwloc-dev libhdf5-dev
  libcli11-dev libfmt-dev libtomlplusplus-dev nlohmann-json3-dev libxxhash-dev libsodium-dev zlib1g-dev libpng-dev libopenblas-serial-dev
  libgtest-dev libgmock-dev libbenchmark-dev
)
readonly targets=(regroup_cli flaky_job survivors_check ulfm_check bulk_check)

skip() {
  printf 'skipped: %s\n' "$*"
  exit 77
}

# step LOG COMMAND...: runs it quietly; status 1 with the end of its output if it fails.
step() {
  local log="${folder}/$1"
  shift
  if "$@" >"${log}" 2>&1; then return; fi
  tail -n 30 "${log}"
  return 1
}

# inside COMMAND...: as root in the new system, with what programs need of /proc, /sys and /dev. Its root is
# a mount of its own, or no namespaces could be made in it.
inside() {
  # shellcheck disable=SC2016 # the inner shell expands these
  unshare --mount --propagation private --pid --fork --kill-child sh -c '
    root="$1"
    shift
    mount --bind "${root}" "${root}" && mount -t proc proc "${root}/proc" && mount --rbind /sys "${root}/sys" &&
      mount --rbind /dev "${root}/dev" && mount -t tmpfs tmpfs "${root}/dev/shm" &&
      exec chroot "${root}" env -i HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"' sh "${root}" "$@"
}

# own_mirror: prints where this system has its packages from, if it is a Debian.
own_mirror() {
  # shellcheck disable=SC2016 # apt-get expands these
  apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
    sed -n '/security/!s/^Debian //p' | head -n 1
}

mirror_answers() {
  if [[ -n "${http_proxy:-}" || "${mirror}" != http://* ]]; then return; fi
  # shellcheck disable=SC2016 # the inner shell expands this
  timeout "${reach_seconds_max}" bash -c 'exec 3<>"/dev/tcp/$1/80"' sh "$(cut -d/ -f3 <<<"${mirror}")" 2>/dev/null
}

mirror="${REGROUP_DEBIAN_MIRROR:-$(own_mirror || true)}" # empty: debootstrap knows one
readonly mirror

((EUID == 0)) || skip "making a Debian 13 root takes root"
for program in debootstrap unshare chroot tar; do
  command -v "${program}" >/dev/null || skip "${program} is not installed"
done
unshare --mount --propagation private --pid --fork true 2>/dev/null ||
  skip "this machine allows no mount namespace"
mkdir -p "${folder}"
exec 9>"${folder}/lock" # one at a time
flock 9

if [[ "$(cat "${root}/made" 2>/dev/null)" != "${packages[*]}" ]]; then
  mirror_answers || skip "no packages: ${mirror} does not answer"
  rm -rf -- "${root}"
  step debootstrap.log debootstrap --variant=minbase trixie "${root}" ${mirror:+"${mirror}"} ||
    skip "debootstrap cannot make a Debian 13 here"
  cp -f /etc/resolv.conf "${root}/etc/resolv.conf"
  step packages.log inside sh -c 'apt-get -q update && apt-get -q -y install --no-install-recommends "$@"' \
    sh "${packages[@]}" || skip "the packages of Debian 13 cannot be installed"
  printf '%s\n' "${packages[*]}" >"${root}/made"
fi

# Only what has changed is written, so that only that is built again.
copy="${root}/root/regroup"
mkdir -p "${copy}" "${folder}/tree"
find "${folder}/tree" -mindepth 1 -delete
tar -C "${tree}" -c --exclude=./build --exclude=./.git . | tar -C "${folder}/tree" -x
find "${copy}" -mindepth 1 -maxdepth 1 ! -name build -print0 | while IFS= read -r -d '' old; do
  [[ -e "${folder}/tree/${old##*/}" ]] || rm -rf -- "${old}"
done
(cd "${folder}/tree" && find . -type f -print0) | while IFS= read -r -d '' file; do
  cmp -s "${folder}/tree/${file}" "${copy}/${file}" && continue
  mkdir -p "$(dirname -- "${copy}/${file}")"
  cp -p "${folder}/tree/${file}" "${copy}/${file}"
  touch "${copy}/${file}"
done

step configure.log inside cmake -S /root/regroup -B /root/regroup/build/ulfm -G Ninja \
  -DCMAKE_BUILD_TYPE=RelWithDebInfo "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -g1" -DREGROUP_BUILD_TESTS=ON
step build.log inside cmake --build /root/regroup/build/ulfm --parallel "$(nproc)" --target "${targets[@]}"
inside ctest --test-dir /root/regroup/build/ulfm --label-regex '^ulfm$' --output-on-failure \
  --no-tests=error --timeout 180 --parallel "$(nproc)"
