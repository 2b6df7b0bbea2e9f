# Installs the build tree, moves the prefix away, and builds and runs the consumer project against it.
#   cmake -DBUILD= -DSOURCE= -DWORK= -DCONSUMER= -DGENERATOR= -DBUILD_TYPE= -DC_COMPILER= -DCXX_COMPILER= -P …
# Fails when installing, finding, linking or running fails, or when an installed package file names
# the source or the build tree. WORK is emptied first; nothing outside it is written.
cmake_minimum_required(VERSION 3.25)

function(run title)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${title} failed (${result}):\n${output}")
  endif()
  message(STATUS "${title}: ok")
endfunction()

file(REMOVE_RECURSE "${WORK}")
file(MAKE_DIRECTORY "${WORK}")
run("installing" ${CMAKE_COMMAND} --install "${BUILD}" --prefix "${WORK}/installed")
file(RENAME "${WORK}/installed" "${WORK}/moved")

file(GLOB_RECURSE package_files "${WORK}/moved/*.cmake")
if(NOT package_files)
  message(FATAL_ERROR "the installation has no package files")
endif()
foreach(file IN LISTS package_files)
  file(READ "${file}" text)
  string(FIND "${text}" "${SOURCE}" position)
  if(NOT position EQUAL -1)
    message(FATAL_ERROR "${file} names ${SOURCE}: the package would break where that tree is not")
  endif()
endforeach()

run("configuring the consumer" ${CMAKE_COMMAND} -S "${CONSUMER}" -B "${WORK}/consumer" -G "${GENERATOR}"
    "-DCMAKE_PREFIX_PATH=${WORK}/moved" "-DCMAKE_BUILD_TYPE=${BUILD_TYPE}" "-DCMAKE_C_COMPILER=${C_COMPILER}"
    "-DCMAKE_CXX_COMPILER=${CXX_COMPILER}")
run("building the consumer" ${CMAKE_COMMAND} --build "${WORK}/consumer" --parallel 2)
run("running the consumer" "${WORK}/consumer/consumer")
if(EXISTS "${WORK}/moved/bin/regroup")
  run("running the installed program" "${WORK}/moved/bin/regroup" --help)
endif()
