# CUDA: the language, its flags, and how a target gets the kernels' .cu files compiled. Included only
# with REGROUP_CUDA. CMAKE_CUDA_ARCHITECTURES chooses the devices; by default those of data centres
# that the compiler knows, from compute capability 7.0 on, and later ones through PTX.

if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(regroup_choose_architectures ON)
  set(CMAKE_CUDA_ARCHITECTURES OFF) # until the compiler is known
endif()
if(NOT DEFINED CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX} AND EXISTS /usr/local/cuda/bin/nvcc)
  set(CMAKE_CUDA_COMPILER /usr/local/cuda/bin/nvcc)
endif()
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
if(regroup_choose_architectures)
  # CUDA 13 has left out what is older than 7.5.
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 13)
    set(CMAKE_CUDA_ARCHITECTURES 70-real 80-real 90)
  else()
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90)
  endif()
endif()
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION) # CMake before 3.26 does not know it
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
endif()
if(CCACHE_PROGRAM AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
  set(CMAKE_CUDA_COMPILER_LAUNCHER "${CCACHE_PROGRAM}")
endif()

# regroup_cuda_kernels(TARGET): for one that has .cu files. -fmad=false: the compiler fuses nothing by
# itself, so that results are the CPU's, to the bit.
function(regroup_cuda_kernels target)
  target_compile_options(
    ${target} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:-fmad=false;--expt-relaxed-constexpr>"
                      "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-ffp-contract=off,-Wall,-Wextra>")
  target_link_libraries(${target} PRIVATE CUDA::cudart_static)
  if(TARGET CUDA::cublas)
    target_compile_definitions(${target} PRIVATE REGROUP_CUBLAS)
    target_link_libraries(${target} PRIVATE CUDA::cublas)
  else()
    message(STATUS "no cuBLAS: dense products on devices by a kernel of our own")
  endif()
endfunction()
