# Build options and the compile flags every target shares (through regroup_flags).

option(REGROUP_BUILD_TESTS "Build the tests, the simulator and the benchmarks" ${PROJECT_IS_TOP_LEVEL})
option(REGROUP_CUDA "Build the CUDA device support" OFF)
option(REGROUP_FUZZ "Build the libFuzzer programs (clang only; with REGROUP_SANITIZE=address they find more)" OFF)
option(REGROUP_WERROR "Treat warnings as errors" OFF)
set(REGROUP_SANITIZE "" CACHE STRING "Sanitizers to build with, as -fsanitize takes them")

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_C_COMPILER_LAUNCHER "${CCACHE_PROGRAM}")
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CCACHE_PROGRAM}")
endif()

add_library(regroup_flags INTERFACE)
# -Wno-restrict: GCC 12 warns of its own std::string. -ffp-contract=off: results are the same bits on every instruction set.
# nvcc hands its own to the compiler of the host (cmake/RegroupCuda.cmake).
target_compile_options(
  regroup_flags
  INTERFACE "$<$<COMPILE_LANGUAGE:C,CXX>:-Wall;-Wextra;-Wshadow;-Wconversion;-Wno-sign-conversion>"
            "$<$<COMPILE_LANGUAGE:C,CXX>:-Wno-missing-field-initializers;-Wno-restrict;-ffp-contract=off>")
if(REGROUP_WERROR)
  target_compile_options(regroup_flags INTERFACE "$<$<COMPILE_LANGUAGE:C,CXX>:-Werror>"
                                                 "$<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings>")
endif()
if(REGROUP_SANITIZE)
  # -Wno-maybe-uninitialized: with the checks between, GCC 12 loses track of what is set.
  target_compile_options(regroup_flags INTERFACE -fsanitize=${REGROUP_SANITIZE} -fno-omit-frame-pointer
                                                 -fno-sanitize-recover=all -Wno-maybe-uninitialized)
  target_link_options(regroup_flags INTERFACE -fsanitize=${REGROUP_SANITIZE})
endif()
if(REGROUP_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "REGROUP_FUZZ needs clang: configure with -DCMAKE_CXX_COMPILER=clang++")
  endif()
  target_compile_options(regroup_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 19)
  # GNU's <expected> shows itself only to compilers that claim all of C++20's concepts; these have what it uses.
  target_compile_options(regroup_flags INTERFACE -Wno-builtin-macro-redefined -Wno-macro-redefined
                                                 -D__cpp_concepts=202002L)
endif()
