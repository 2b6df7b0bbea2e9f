# Everything Regroup needs, found once, as imported targets. All are packages of the distribution.
# The installed package config includes this same file's counterpart, regroupConfig.cmake.in.

include(CheckCXXSourceCompiles)
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(MPI REQUIRED COMPONENTS C)
find_package(OpenMP REQUIRED COMPONENTS CXX)
# ThreadSanitizer knows nothing of its barriers.
set(REGROUP_OPENMP OpenMP::OpenMP_CXX)
if(REGROUP_SANITIZE STREQUAL "thread")
  set(REGROUP_OPENMP "")
endif()
# Any CBLAS; one without threads of its own is best (docs/building.md).
find_package(BLAS REQUIRED)
find_path(REGROUP_CBLAS_INCLUDE_DIR cblas.h PATH_SUFFIXES openblas openblas-serial REQUIRED)

# User-Level Failure Mitigation, as Open MPI 5 has it: what the ULFM backend is made of.
include(CheckCSourceCompiles)
set(CMAKE_REQUIRED_LIBRARIES MPI::MPI_C)
check_c_source_compiles(
  "#include <mpi.h>
   #include <mpi-ext.h>
   #ifndef OMPI_HAVE_MPI_EXT_FTMPI
   #error without failure mitigation
   #endif
   int main(void) {
     MPI_Comm comm = MPI_COMM_WORLD;
     MPI_Group failed;
     int acknowledged = MPIX_FT;
     return MPIX_Comm_get_failed(comm, &failed) + MPIX_Comm_ack_failed(comm, 0, &acknowledged) +
            MPIX_Comm_revoke(comm) + MPIX_Comm_shrink(comm, &comm);
   }"
  REGROUP_ULFM)
unset(CMAKE_REQUIRED_LIBRARIES)

find_package(HDF5 REQUIRED COMPONENTS C)
find_package(CLI11 REQUIRED)
find_package(fmt REQUIRED)
find_package(tomlplusplus REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(PNG REQUIRED)
pkg_check_modules(hwloc REQUIRED IMPORTED_TARGET hwloc)
pkg_check_modules(sodium REQUIRED IMPORTED_TARGET libsodium)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)
# Its hashes by the best instructions that a machine has, if it was built with those.
set(CMAKE_REQUIRED_LIBRARIES PkgConfig::xxhash)
check_cxx_source_compiles(
  "#include <xxh_x86dispatch.h>
   int main() { return static_cast<int>(XXH3_128bits(\"\", 0).low64); }" REGROUP_XXHASH_DISPATCHES)
unset(CMAKE_REQUIRED_LIBRARIES)
pkg_check_modules(zlib REQUIRED IMPORTED_TARGET zlib)

if(REGROUP_CUDA)
  include(RegroupCuda)
endif()

if(REGROUP_BUILD_TESTS)
  find_package(GTest REQUIRED)
  find_package(benchmark REQUIRED)
endif()
