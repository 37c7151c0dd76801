# Writes OUTPUT, a C++ file that holds the text of each of profiles/*.json, so that the built program
# finds them wherever it is moved.
function(fovea_embed_profiles output)
  file(GLOB files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/profiles/*.json)
  set(rows)
  set(n 0)
  foreach(file ${files})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
    get_filename_component(name ${file} NAME)
    file(READ ${file} text)
    # Compilers limit one literal to 64 kB; adjacent ones are joined.
    string(LENGTH "${text}" length)
    set(literals)
    set(at 0)
    while(at LESS length)
      string(SUBSTRING "${text}" ${at} 16000 part)
      string(APPEND literals "R\"profile(${part})profile\"\n")
      math(EXPR at "${at} + 16000")
    endwhile()
    string(APPEND rows "    {\"${name}\",\n${literals}},\n")
    math(EXPR n "${n} + 1")
  endforeach()
  file(CONFIGURE OUTPUT ${output} @ONLY CONTENT [=[
// Generated from profiles/*.json by cmake/embed_profiles.cmake.
#include <array>

#include "fovea/probe/measures/profile.h"

namespace fovea::probe {

std::span<const ShippedProfile> shipped_profiles() {
  static constexpr std::array<ShippedProfile, @n@> profiles{{
@rows@  }};
  return profiles;
}

}  // namespace fovea::probe
]=])
endfunction()
