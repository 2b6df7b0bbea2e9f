# regroup_add_layer(NAME ROOT dir SOURCES ... [PUBLIC targets...] [PRIVATE targets...])
# One layer of the architecture as a static library regroup::NAME. Before it compiles, every
# #include below ROOT is held against the allowed arrows: a stray one fails the build.

add_custom_target(regroup_headers)

function(regroup_add_layer name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "ROOT" "SOURCES;PUBLIC;PRIVATE")
  set(target regroup_${name})
  add_library(${target} STATIC ${arg_SOURCES})
  add_library(regroup::${name} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name} REGROUP_ROOT "${arg_ROOT}")
  target_compile_features(${target} PUBLIC cxx_std_23)
  target_include_directories(
    ${target} PUBLIC "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>"
                     "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/regroup>")
  target_link_libraries(${target} PUBLIC ${arg_PUBLIC} PRIVATE ${arg_PRIVATE}
                                                               $<BUILD_INTERFACE:regroup_flags>)

  file(GLOB_RECURSE files CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/${arg_ROOT}/*.hpp"
       "${PROJECT_SOURCE_DIR}/${arg_ROOT}/*.cpp" "${PROJECT_SOURCE_DIR}/${arg_ROOT}/*.cuh"
       "${PROJECT_SOURCE_DIR}/${arg_ROOT}/*.cu")
  set(stamp "${CMAKE_CURRENT_BINARY_DIR}/layers-${name}.stamp")
  add_custom_command(
    OUTPUT "${stamp}"
    COMMAND "${CMAKE_COMMAND}" -DROOT=${PROJECT_SOURCE_DIR} -DLAYER=${arg_ROOT} -P
            "${PROJECT_SOURCE_DIR}/cmake/check_layers.cmake"
    COMMAND "${CMAKE_COMMAND}" -E touch "${stamp}"
    DEPENDS ${files} "${PROJECT_SOURCE_DIR}/cmake/check_layers.cmake"
    COMMENT "Checking the includes of ${arg_ROOT}"
    VERBATIM)
  add_custom_target(layers_${name} DEPENDS "${stamp}")
  add_dependencies(${target} layers_${name})
  set_property(GLOBAL APPEND PROPERTY REGROUP_LAYERS ${target})
endfunction()
