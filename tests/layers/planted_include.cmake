# Plants one #include into a layer of a copy of the tree and asks the layer check about it.
#   cmake -DSOURCE= -DWORK= -DLAYER= -DINCLUDE= -DEXPECT=rejected|allowed -P planted_include.cmake
# The clean copy must pass. EXPECT=rejected: the planted one must fail and name the planted file and
# include. EXPECT=allowed: it must pass, so that a check that rejects everything fails here.
include("${CMAKE_CURRENT_LIST_DIR}/copy_tree.cmake")

function(check_layer result_variable output_variable)
  execute_process(
    COMMAND "${CMAKE_COMMAND}" -DROOT=${WORK} -DLAYER=${LAYER} -P "${WORK}/cmake/check_layers.cmake"
    RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  # CMake wraps its error text; one line is easier to search.
  string(REGEX REPLACE "[ \n]+" " " output "${output}")
  set(${result_variable} "${result}" PARENT_SCOPE)
  set(${output_variable} "${output}" PARENT_SCOPE)
endfunction()

copy_tree("${SOURCE}" "${WORK}")
check_layer(result output)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "the clean tree does not pass: ${output}")
endif()

set(planted "${LAYER}/planted_include.hpp")
file(WRITE "${WORK}/${planted}" "#pragma once\n#include ${INCLUDE}\n")
check_layer(result output)
file(REMOVE_RECURSE "${WORK}")

if(EXPECT STREQUAL "allowed")
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "#include ${INCLUDE} is allowed in ${LAYER}, and was rejected: ${output}")
  endif()
  return()
endif()
if(result EQUAL 0)
  message(FATAL_ERROR "#include ${INCLUDE} passed in ${planted}")
endif()
string(REGEX REPLACE "[<>\"]" "" header "${INCLUDE}")
foreach(expected IN ITEMS "${planted}" "${header}")
  string(FIND "${output}" "${expected}" position)
  if(position EQUAL -1)
    message(FATAL_ERROR "the rejection does not name ${expected}: ${output}")
  endif()
endforeach()
