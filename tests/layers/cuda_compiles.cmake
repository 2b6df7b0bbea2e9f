# The CUDA code compiles, where there is a compiler for it; no GPU is needed. Its kernels fuse no
# multiplication and addition of doubles but where a source says so: what the compiler made of them
# (PTX) is read.
#   cmake -DSOURCE= -DWORK= -DC_COMPILER= -DCXX_COMPILER= -P cuda_compiles.cmake
# Prints why and "skipped" where there is no nvcc.
cmake_minimum_required(VERSION 3.25)

find_program(NVCC nvcc PATHS /usr/local/cuda/bin ENV CUDACXX)
find_program(NINJA ninja)
if(NOT NVCC OR NOT NINJA)
  message(STATUS "skipped: nvcc and ninja are needed")
  return()
endif()

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "${command}\n${output}")
  endif()
endfunction()

# One kind of device, with PTX that can be read in the object files.
run("${CMAKE_COMMAND}" -S "${SOURCE}" -B "${WORK}" -G Ninja -DREGROUP_CUDA=ON -DREGROUP_BUILD_TESTS=OFF -DREGROUP_WERROR=ON
    -DCMAKE_BUILD_TYPE=Release -DCMAKE_CUDA_ARCHITECTURES=80 -DCMAKE_CUDA_FLAGS=--no-compress
    "-DCMAKE_CUDA_COMPILER=${NVCC}" "-DCMAKE_C_COMPILER=${C_COMPILER}" "-DCMAKE_CXX_COMPILER=${CXX_COMPILER}")
file(GLOB sources RELATIVE "${SOURCE}/kernels" "${SOURCE}/kernels/*/cuda.cu")
list(TRANSFORM sources PREPEND kernels/CMakeFiles/regroup_kernels.dir/ OUTPUT_VARIABLE objects)
list(TRANSFORM objects APPEND .o)
run("${CMAKE_COMMAND}" --build "${WORK}" --parallel 2 --target ${objects})

set(read 0)
foreach(object IN LISTS objects)
  file(STRINGS "${WORK}/${object}" doubles REGEX "\\.f64")
  file(STRINGS "${WORK}/${object}" fused REGEX "(fma|mad)[a-z.]*\\.f64")
  list(LENGTH doubles count)
  math(EXPR read "${read} + ${count}")
  if(fused AND NOT object MATCHES "/matrix/")
    message(FATAL_ERROR "${object} has fused what is not fused on the CPU: ${fused}")
  endif()
endforeach()
if(read EQUAL 0)
  message(FATAL_ERROR "no PTX could be read in ${WORK}")
endif()
