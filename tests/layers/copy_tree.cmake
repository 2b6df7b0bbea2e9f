# copy_tree(SOURCE WORK): a fresh copy of what the build reads, to plant faults into. The tree itself is
# never written to.
cmake_minimum_required(VERSION 3.25)

function(copy_tree source work)
  file(REMOVE_RECURSE "${work}")
  file(MAKE_DIRECTORY "${work}")
  foreach(entry IN ITEMS CMakeLists.txt LICENSE README.md cmake runtime scheduler kernels jobs slurm)
    if(EXISTS "${source}/${entry}")
      file(COPY "${source}/${entry}" DESTINATION "${work}")
    endif()
  endforeach()
endfunction()
