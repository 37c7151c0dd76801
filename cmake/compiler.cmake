# Flags that every target of the project shares. Link it as `fovea_flags`.
add_library(fovea_flags INTERFACE)
target_compile_options(fovea_flags INTERFACE -Wall -Wextra -Wshadow -Wno-unused-parameter -fno-math-errno)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 warns of string code that is right (GCC bug 105651), and takes a source file of a group for a header.
  target_compile_options(fovea_flags INTERFACE -Wno-restrict -Wno-subobject-linkage)
  # -O2 of g++ 12 makes vectors only of loops whose length it knows; those of gradients are as long as their tensors.
  target_compile_options(fovea_flags INTERFACE $<$<CONFIG:Release>:-fvect-cost-model=dynamic>)
endif()
# Tells builds apart: what one has stored (fovea/engine/prefix_store.h) another does not read.
target_link_options(fovea_flags INTERFACE -Wl,--build-id=sha1)
if(FOVEA_WERROR)
  target_compile_options(fovea_flags INTERFACE -Werror)
endif()
if(FOVEA_SANITIZE)
  target_compile_options(fovea_flags INTERFACE -fsanitize=${FOVEA_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(fovea_flags INTERFACE -fsanitize=${FOVEA_SANITIZE})
endif()
if(FOVEA_FUZZ)  # coverage for the fuzzer everywhere; its main() only in the targets of fuzz/
  target_compile_options(fovea_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

# A compiler cache and a fast linker, where the machine has them. Paths are taken from the source folder on, so that
# another clone finds what this one compiled; precompiled headers ask for the rest.
find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_ABSSTDERR=1
    CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=pch_defines,time_macros ${CCACHE})
endif()
# fovea_precompile(TARGET HEADER...) or fovea_precompile(TARGET REUSE_FROM OTHER). The cache tells precompiled headers
# apart by what is in them, not by their dates.
function(fovea_precompile target)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(${target} PRIVATE -fpch-preprocess)
  else()
    target_compile_options(${target} PRIVATE "SHELL:-Xclang -fno-pch-timestamp")
  endif()
  if(ARGV1 STREQUAL "REUSE_FROM")
    target_precompile_headers(${target} REUSE_FROM ${ARGV2})
  else()
    target_precompile_headers(${target} PRIVATE ${ARGN})
  endif()
endfunction()
find_program(MOLD mold)
if(MOLD AND NOT FOVEA_FUZZ)
  target_link_options(fovea_flags INTERFACE -fuse-ld=mold)
endif()
