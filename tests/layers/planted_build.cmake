# A forbidden include must stop an ordinary build, not only the check when it is called by hand.
#   cmake -DSOURCE= -DWORK= -DGENERATOR= -DC_COMPILER= -DCXX_COMPILER= -P planted_build.cmake
# Builds regroup_protocol in a copy of the tree, clean first (must pass), then with <mpi.h> planted in
# it (must fail and name the file).
include("${CMAKE_CURRENT_LIST_DIR}/copy_tree.cmake")

function(run result_variable output_variable)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  set(${result_variable} "${result}" PARENT_SCOPE)
  set(${output_variable} "${output}" PARENT_SCOPE)
endfunction()

copy_tree("${SOURCE}" "${WORK}")
set(build "${CMAKE_COMMAND}" --build "${WORK}/build" --target regroup_protocol --parallel 1)
run(result output "${CMAKE_COMMAND}" -S "${WORK}" -B "${WORK}/build" -G "${GENERATOR}" -DREGROUP_BUILD_TESTS=OFF
    -DCMAKE_BUILD_TYPE=Debug "-DCMAKE_C_COMPILER=${C_COMPILER}" "-DCMAKE_CXX_COMPILER=${CXX_COMPILER}")
if(NOT result EQUAL 0)
  message(FATAL_ERROR "the copy does not configure:\n${output}")
endif()
run(result output ${build})
if(NOT result EQUAL 0)
  message(FATAL_ERROR "the clean copy does not build:\n${output}")
endif()

file(WRITE "${WORK}/runtime/protocol/planted_include.hpp" "#pragma once\n#include <mpi.h>\n")
run(result output ${build})
file(REMOVE_RECURSE "${WORK}")
if(result EQUAL 0)
  message(FATAL_ERROR "the build took <mpi.h> in runtime/protocol/planted_include.hpp:\n${output}")
endif()
if(NOT output MATCHES "runtime/protocol/planted_include\\.hpp: <mpi\\.h>")
  message(FATAL_ERROR "the build failed without naming the planted include:\n${output}")
endif()
