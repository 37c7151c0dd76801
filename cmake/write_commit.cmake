# cmake -DSOURCE=DIR -DOUTPUT=FILE -P write_commit.cmake: a source file that says the commit; untouched if it stays.
execute_process(COMMAND git -C ${SOURCE} describe --always --dirty --match= OUTPUT_VARIABLE commit
  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
if(failed OR commit STREQUAL "")
  set(commit unknown)
endif()
set(text "#include \"apps/cli/commit.h\"\n\nstd::string fovea::cli::commit() { return \"${commit}\"; }\n")
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT "${text}" @ONLY)
