# Holds the object files compiled for a newer instruction set to defining nothing that the linker may
# share with others: an inline function compiled with AVX-512 there could replace the plain copy of the same
# function everywhere, and the program would die on a machine without AVX-512.
#   cmake -DNM=<nm> -DOBJECTS=<object files> -P check_symbols.cmake
cmake_minimum_required(VERSION 3.25)

set(found "")
set(checked 0)
foreach(object IN LISTS OBJECTS)
  if(NOT object MATCHES "_avx[0-9]+\\.cpp")
    continue()
  endif()
  math(EXPR checked "${checked} + 1")
  execute_process(COMMAND "${NM}" -C --defined-only "${object}" OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(REPLACE "\n" ";" symbols "${symbols}")
  foreach(symbol IN LISTS symbols)
    # Weak functions are shared; names of the kernels that are there carry the register width.
    if(symbol MATCHES "^[0-9a-f]+ W " AND NOT symbol MATCHES "regroup::kernels::Vector(Krylov|Mandelbrot|Reduction|Samplers|Stencil)<[0-9]+>::")
      list(APPEND found "${object}: ${symbol}")
    endif()
  endforeach()
endforeach()

if(found)
  list(JOIN found "\n  " text)
  message(FATAL_ERROR "code of a newer instruction set that the linker could share:\n  ${text}\n")
endif()
if(checked EQUAL 0)
  message(FATAL_ERROR "no object file to check among: ${OBJECTS}")
endif()
message(STATUS "${checked} object files share nothing")
