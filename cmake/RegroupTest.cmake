# regroup_add_test(NAME SOURCES ... LIBRARIES ... [LABELS ...] [ARGS ...] [TIMEOUT seconds] [PROCESSORS n] [THREADS])
# One GoogleTest program whose cases are tests of their own, with the given labels (default: unit).
# THREADS: some of them run threads; the thread sanitizer has nothing to find in the others, so a build
# with it leaves them out.

include(GoogleTest)

# What unit and simulation tests need built, and no program that runs over MPI.
add_custom_target(regroup_sanitized_tests)

function(regroup_add_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "THREADS" "TIMEOUT;PROCESSORS" "SOURCES;LIBRARIES;LABELS;ARGS")
  if(REGROUP_SANITIZE STREQUAL "thread" AND NOT arg_THREADS)
    return()
  endif()
  if(NOT arg_LABELS)
    set(arg_LABELS unit)
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  if(NOT arg_PROCESSORS)
    set(arg_PROCESSORS 1)
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_LIBRARIES} GTest::gmock GTest::gtest_main regroup_flags)
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}")
  add_dependencies(regroup_sanitized_tests ${name})
  if(REGROUP_SANITIZE)
    # The tests' own code costs little to run and, with the checks between, much to optimise.
    target_compile_options(${name} PRIVATE -O0)
  endif()
  gtest_discover_tests(
    ${name}
    TEST_PREFIX ${name}.
    DISCOVERY_MODE PRE_TEST
    EXTRA_ARGS ${arg_ARGS}
    PROPERTIES LABELS "${arg_LABELS}" TIMEOUT ${arg_TIMEOUT} PROCESSORS ${arg_PROCESSORS})
endfunction()

# regroup_add_cli_test(NAME SCRIPT file.py [CASE class] [PROCESSORS n] [LABELS ...] [TIMEOUT seconds] [ALONE]
#                      [RECOVERY backend])
# One Python script, or one class of its tests, that runs the programs as a user does, as test LABEL.NAME, with
# the given recovery backend if there is one. PROCESSORS: how many
# it keeps busy; one that mostly waits for ranks to start and to end needs fewer than it has ranks. ALONE: it
# measures, so no other test may run beside it. Its status 77 means skipped.
function(regroup_add_cli_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "ALONE" "SCRIPT;CASE;PROCESSORS;TIMEOUT;RECOVERY" "LABELS")
  if(NOT arg_LABELS)
    set(arg_LABELS mpi)
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 180)
  endif()
  if(NOT arg_PROCESSORS)
    set(arg_PROCESSORS 1)
  endif()
  set(environment "REGROUP_PROGRAM=$<TARGET_FILE:regroup_cli>" "FLAKY_JOB_PROGRAM=$<TARGET_FILE:flaky_job>"
                  "EMULATED_GPU_PROGRAM=$<TARGET_FILE:emulated_gpu_regroup>"
                  "PLANT_CHECKPOINTS_PROGRAM=$<TARGET_FILE:plant_checkpoints>"
                  "FLIP_BITS_PROGRAM=$<TARGET_FILE:flip_bits>"
                  "PYTHONDONTWRITEBYTECODE=1")
  if(arg_RECOVERY)
    list(APPEND environment "CLI_TEST_RECOVERY=${arg_RECOVERY}")
  endif()
  if(REGROUP_SANITIZE)
    # Open MPI and its libraries keep memory until the end.
    list(APPEND environment "PROGRAMS_ARE_SANITIZED=1" "ASAN_OPTIONS=detect_leaks=0")
    math(EXPR arg_TIMEOUT "4 * ${arg_TIMEOUT}")
  endif()
  list(GET arg_LABELS 0 folder)
  set(test ${folder}.${name})
  add_test(NAME ${test} COMMAND Python3::Interpreter "${CMAKE_CURRENT_SOURCE_DIR}/${arg_SCRIPT}" ${arg_CASE})
  set_tests_properties(
    ${test}
    PROPERTIES LABELS "${arg_LABELS}" TIMEOUT ${arg_TIMEOUT} PROCESSORS ${arg_PROCESSORS} ENVIRONMENT "${environment}"
               SKIP_RETURN_CODE 77 RUN_SERIAL "${arg_ALONE}")
endfunction()
