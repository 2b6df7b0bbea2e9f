# Installation and export, so that find_package(regroup) gives the same target names as the build tree:
# regroup::<layer> for every layer, and regroup::regroup for the program. The package config finds
# again exactly what the layers link; a library that this file does not know how to find again stops
# the configuration here, not a consumer's build later.

include(CMakePackageConfigHelpers)

set(REGROUP_CMAKE_DIR "${CMAKE_INSTALL_LIBDIR}/cmake/regroup")

# regroup_find_again(VARIABLE target): sets VARIABLE to the config code that creates an imported target.
function(regroup_find_again variable target)
  set(code "")
  if(target MATCHES "^PkgConfig::(.+)$")
    set(prefix "${CMAKE_MATCH_1}")
    if(NOT ${prefix}_MODULE_NAME)
      message(FATAL_ERROR "cannot tell which pkg-config module ${target} comes from: ask for one module at a time")
    endif()
    set(code "regroup_find_module(${prefix} ${${prefix}_MODULE_NAME})")
  elseif(target MATCHES "^MPI::MPI_(C|CXX)$")
    set(code "find_dependency(MPI COMPONENTS ${CMAKE_MATCH_1})")
  elseif(target MATCHES "^(hdf5|HDF5)::")
    set(code "find_dependency(HDF5 COMPONENTS C)")
  elseif(target MATCHES "^OpenMP::OpenMP_(C|CXX)$")
    set(code "find_dependency(OpenMP COMPONENTS ${CMAKE_MATCH_1})")
  elseif(target MATCHES "^CUDA::")
    set(code "find_dependency(CUDAToolkit)")
  elseif(target MATCHES "^(Threads|CLI11|fmt|spdlog|tomlplusplus|nlohmann_json|PNG|BLAS|hwloc)::")
    set(code "find_dependency(${CMAKE_MATCH_1})")
  elseif(target MATCHES "::" AND NOT target MATCHES "^regroup::")
    message(FATAL_ERROR "a layer links ${target}: say in cmake/RegroupInstall.cmake how a consumer finds it")
  endif()
  set(${variable} "${code}" PARENT_SCOPE)
endfunction()

get_property(layers GLOBAL PROPERTY REGROUP_LAYERS)
set(finds "")
foreach(layer IN LISTS layers)
  get_target_property(libraries ${layer} LINK_LIBRARIES)
  get_target_property(interface_libraries ${layer} INTERFACE_LINK_LIBRARIES)
  # The targets' names, whatever generator expressions they are wrapped in.
  string(REGEX MATCHALL "[A-Za-z0-9_]+::[A-Za-z0-9_]+" targets "${libraries};${interface_libraries}")
  foreach(target IN LISTS targets)
    regroup_find_again(code "${target}")
    list(APPEND finds ${code})
  endforeach()
endforeach()
list(REMOVE_DUPLICATES finds)
# FindMPI and FindHDF5 look for the C libraries with the C compiler.
if(finds MATCHES "COMPONENTS C\\)")
  list(PREPEND finds "regroup_need_language_c()")
endif()
list(JOIN finds "\n" REGROUP_FIND_DEPENDENCIES)

install(TARGETS ${layers} EXPORT regroupTargets ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
if(TARGET regroup_cli)
  set_target_properties(
    regroup_cli PROPERTIES OUTPUT_NAME regroup EXPORT_NAME regroup
                           RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
  if(NOT TARGET regroup::regroup)
    add_executable(regroup::regroup ALIAS regroup_cli)
  endif()
  install(TARGETS regroup_cli EXPORT regroupTargets RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
endif()

# Headers keep their paths below include/regroup, so that they include each other as in the source tree.
file(GLOB_RECURSE headers CONFIGURE_DEPENDS RELATIVE "${PROJECT_SOURCE_DIR}"
     "${PROJECT_SOURCE_DIR}/runtime/*.hpp" "${PROJECT_SOURCE_DIR}/scheduler/*.hpp"
     "${PROJECT_SOURCE_DIR}/kernels/*.hpp" "${PROJECT_SOURCE_DIR}/kernels/*.cuh" "${PROJECT_SOURCE_DIR}/jobs/*.hpp")
foreach(header IN LISTS headers)
  get_filename_component(folder "${header}" DIRECTORY)
  install(FILES "${PROJECT_SOURCE_DIR}/${header}" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/regroup/${folder}")
endforeach()

if(EXISTS "${PROJECT_SOURCE_DIR}/slurm")
  install(DIRECTORY "${PROJECT_SOURCE_DIR}/slurm" DESTINATION "${CMAKE_INSTALL_DATADIR}/regroup"
          USE_SOURCE_PERMISSIONS)
endif()
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" "${PROJECT_SOURCE_DIR}/README.md"
        DESTINATION "${CMAKE_INSTALL_DOCDIR}")

install(EXPORT regroupTargets NAMESPACE regroup:: DESTINATION "${REGROUP_CMAKE_DIR}")
configure_package_config_file(
  "${PROJECT_SOURCE_DIR}/cmake/regroupConfig.cmake.in" "${PROJECT_BINARY_DIR}/regroupConfig.cmake"
  INSTALL_DESTINATION "${REGROUP_CMAKE_DIR}" NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/regroupConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/regroupConfig.cmake" "${PROJECT_BINARY_DIR}/regroupConfigVersion.cmake"
        DESTINATION "${REGROUP_CMAKE_DIR}")
