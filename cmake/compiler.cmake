# Flags that every target of the project shares. Link it as `fovea_flags`.
add_library(fovea_flags INTERFACE)
target_compile_options(fovea_flags INTERFACE -Wall -Wextra -Wshadow -Wno-unused-parameter -fno-math-errno)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 warns of string code that is right (GCC bug 105651).
  target_compile_options(fovea_flags INTERFACE -Wno-restrict)
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

# A compiler cache and a fast linker, where the machine has them.
find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()
find_program(MOLD mold)
if(MOLD AND NOT FOVEA_FUZZ)
  target_link_options(fovea_flags INTERFACE -fuse-ld=mold)
endif()
