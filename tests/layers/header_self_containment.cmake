# Compiles each header alone: one generated file a header, which includes it twice and nothing else, in
# one object library a layer. The library takes the include folders of the layer itself, private ones
# too, because a header is first of all used by its own layer. Built with the tests; nothing to run.

function(regroup_check_headers_of layer)
  get_target_property(folder ${layer} REGROUP_ROOT)
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS RELATIVE "${PROJECT_SOURCE_DIR}"
       "${PROJECT_SOURCE_DIR}/${folder}/*.hpp")
  set(sources "")
  foreach(header IN LISTS headers)
    set(source "${CMAKE_CURRENT_BINARY_DIR}/alone/${header}.cpp")
    file(CONFIGURE OUTPUT "${source}" CONTENT "#include \"@header@\"\n#include \"@header@\"\n" @ONLY)
    list(APPEND sources "${source}")
  endforeach()
  if(NOT sources)
    return()
  endif()

  set(target ${layer}_headers_alone)
  add_library(${target} OBJECT ${sources})
  target_include_directories(${target} PRIVATE "$<TARGET_PROPERTY:${layer},INCLUDE_DIRECTORIES>")
  target_compile_definitions(${target} PRIVATE "$<TARGET_PROPERTY:${layer},COMPILE_DEFINITIONS>")
  target_link_libraries(${target} PRIVATE regroup_flags)
  target_compile_options(${target} PRIVATE -O0 -g0)
  set_target_properties(${target} PROPERTIES UNITY_BUILD OFF)
  add_dependencies(regroup_headers ${target})
endfunction()

get_property(layers GLOBAL PROPERTY REGROUP_LAYERS)
foreach(layer IN LISTS layers)
  regroup_check_headers_of(${layer})
endforeach()
