# Installs the build tree, moves the prefix away, and builds the README's example job against it, source
# and CMakeLists.txt as they stand there; then runs the job on one rank and on two, as a user would.
#   cmake -DBUILD= -DSOURCE= -DWORK= -DGENERATOR= -DBUILD_TYPE= -DC_COMPILER= -DCXX_COMPILER= -P …
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

file(GLOB scripts "${WORK}/moved/share/regroup/slurm/*.sh")
if(NOT scripts)
  message(FATAL_ERROR "the installation has no batch scripts")
endif()

# take_from_readme(LANGUAGE FILE): the README's first block in this language becomes the file.
function(take_from_readme language file)
  file(READ "${SOURCE}/README.md" text)
  string(FIND "${text}" "```${language}\n" begin)
  if(begin EQUAL -1)
    message(FATAL_ERROR "README.md has no block of ${language}")
  endif()
  string(LENGTH "```${language}\n" skipped)
  math(EXPR begin "${begin} + ${skipped}")
  string(SUBSTRING "${text}" ${begin} -1 text)
  string(FIND "${text}" "```" end)
  string(SUBSTRING "${text}" 0 ${end} text)
  file(WRITE "${file}" "${text}")
endfunction()

take_from_readme(cpp "${WORK}/dice/dice.cpp")
take_from_readme(cmake "${WORK}/dice/CMakeLists.txt")
run("configuring the job" ${CMAKE_COMMAND} -S "${WORK}/dice" -B "${WORK}/build" -G "${GENERATOR}"
    "-DCMAKE_PREFIX_PATH=${WORK}/moved" "-DCMAKE_BUILD_TYPE=${BUILD_TYPE}" "-DCMAKE_C_COMPILER=${C_COMPILER}"
    "-DCMAKE_CXX_COMPILER=${CXX_COMPILER}")
run("building the job" ${CMAKE_COMMAND} --build "${WORK}/build" --parallel 2)
run("running the job" "${WORK}/build/dice" run dice --shards 3 --dir "${WORK}/one")
run("running the job on two ranks" "${WORK}/build/dice" run dice --shards 3 -n 2 --dir "${WORK}/two")
run("comparing the results" ${CMAKE_COMMAND} -E compare_files "${WORK}/one/result.h5" "${WORK}/two/result.h5")
run("printing the result" "${WORK}/build/dice" results "${WORK}/one")
run("running the installed program" "${WORK}/moved/bin/regroup" --help)
