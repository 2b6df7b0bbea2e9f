# Holds every #include of one layer against the arrows of the architecture.
#   cmake -DROOT=<source dir> -DLAYER=<runtime/protocol|scheduler|kernels|runtime/host|jobs> -P check_layers.cmake
# Fails, naming file, line and include, when a file includes a layer it may not know, a vendor header
# outside the one wrapper that owns it, or, in the pure layers, a clock, a thread or a random source.
cmake_minimum_required(VERSION 3.25)

# Which other layers a layer may include.
set(arrows_runtime/protocol "")
set(arrows_scheduler "runtime/protocol")
set(arrows_kernels "")
set(arrows_runtime/host "runtime/protocol")
set(arrows_jobs "runtime/protocol;runtime/host;scheduler;kernels")

# Which files may include a vendor's header: a regular expression over paths relative to ROOT.
set(vendor_patterns
    "mpi(-ext)?\\.h" "(hdf5|H5[A-Za-z]*)\\.h" "hwloc(/.*)?\\.h" "(cuda|cublas|curand|nvml).*\\.h" "pmix.*\\.h"
    "png\\.h" "CLI/.*" "toml\\+\\+/.*|toml\\+\\+\\.h" "nlohmann/.*" "sodium(/.*)?\\.h"
    "zlib\\.h")
set(owner_1 "^runtime/host/mpi_wrapper\\.(hpp|cpp)$")
set(owner_2 "^runtime/host/hdf5_wrapper\\.(hpp|cpp)$")
set(owner_3 "^runtime/host/hwloc_wrapper\\.(hpp|cpp)$")
set(owner_4 "^(runtime/host/cuda_wrapper\\.(hpp|cpp)|kernels/.*\\.(cu|cuh))$")
set(owner_5 "^runtime/host/.*$")
set(owner_6 "^runtime/host/png_wrapper\\.(hpp|cpp)$")
set(owner_7 "^jobs/.*$")
set(owner_8 "^jobs/.*$")
set(owner_9 "^(runtime/host|jobs)/.*$")
set(owner_10 "^runtime/host/heartbeat_socket\\.cpp$")
set(owner_11 "^runtime/host/chunk_codec\\.cpp$")

# What a pure layer never includes: the world outside.
set(pure_layers "runtime/protocol;scheduler")
set(impure
    "chrono|thread|mutex|shared_mutex|condition_variable|future|atomic|random|fstream|iostream|filesystem|ctime|time\\.h|pthread\\.h|unistd\\.h|sys/.*|sched\\.h|signal\\.h|csignal|spdlog/.*|omp\\.h"
)

set(layers "runtime/protocol;runtime/host;scheduler;kernels;jobs;tests")
if(NOT DEFINED arrows_${LAYER})
  message(FATAL_ERROR "unknown layer '${LAYER}'")
endif()

set(found "")
file(GLOB_RECURSE files RELATIVE "${ROOT}" "${ROOT}/${LAYER}/*.hpp" "${ROOT}/${LAYER}/*.cpp" "${ROOT}/${LAYER}/*.h"
     "${ROOT}/${LAYER}/*.cu" "${ROOT}/${LAYER}/*.cuh")
foreach(file IN LISTS files)
  file(STRINGS "${ROOT}/${file}" includes REGEX "^[ \t]*#[ \t]*include")
  foreach(line IN LISTS includes)
    if(NOT line MATCHES "include[ \t]*[<\"]([^>\"]+)[>\"]")
      list(APPEND found "${file}: cannot read '${line}'")
      continue()
    endif()
    set(header "${CMAKE_MATCH_1}")
    foreach(other IN LISTS layers)
      if(header MATCHES "(^|/)${other}/" AND NOT other STREQUAL LAYER AND NOT other IN_LIST arrows_${LAYER})
        list(APPEND found "${file}: <${header}>: ${LAYER} may not include ${other}")
      endif()
    endforeach()
    if(header MATCHES "(^|/)\\.\\.?/")
      list(APPEND found "${file}: <${header}>: include from the top of the tree, not by a relative path")
    endif()
    set(index 0)
    foreach(pattern IN LISTS vendor_patterns)
      math(EXPR index "${index} + 1")
      if(header MATCHES "^(${pattern})$" AND NOT file MATCHES "${owner_${index}}")
        list(APPEND found "${file}: <${header}>: only ${owner_${index}} may include it")
      endif()
    endforeach()
    if(LAYER IN_LIST pure_layers AND header MATCHES "^(${impure})$")
      list(APPEND found "${file}: <${header}>: ${LAYER} has no clock, thread, file or random source")
    endif()
  endforeach()
endforeach()

if(found)
  list(JOIN found "\n  " text)
  message(FATAL_ERROR "includes that the layers do not allow:\n  ${text}\n")
endif()
