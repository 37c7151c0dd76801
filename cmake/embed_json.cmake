# Writes OUTPUT, a C++ file with a function (fovea::ROOM::FUNCTION, of HEADER's TYPE) that gives the text of each of
# FOLDER/*.json, so that the built program finds them wherever it is moved.
function(fovea_embed_json output folder header room type function)
  file(GLOB files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/*.json)
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
      string(APPEND literals "R\"json(${part})json\"\n")
      math(EXPR at "${at} + 16000")
    endwhile()
    string(APPEND rows "    {\"${name}\",\n${literals}},\n")
    math(EXPR n "${n} + 1")
  endforeach()
  file(CONFIGURE OUTPUT ${output} @ONLY CONTENT [=[
// Generated from @folder@/*.json by cmake/embed_json.cmake.
#include <array>

#include "@header@"

namespace fovea::@room@ {

std::span<const @type@> @function@() {
  static constexpr std::array<@type@, @n@> texts{{
@rows@  }};
  return texts;
}

}  // namespace fovea::@room@
]=])
endfunction()
