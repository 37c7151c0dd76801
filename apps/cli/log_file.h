// --log-file: a line for each warning, piece of information and error, with the time, at the end of a file.
#pragma once

#include <string>
#include <string_view>

#include "fovea/base/log.h"
#include "fovea/base/result.h"

namespace fovea::cli {

// Opened once, before the work: a file that cannot be written is said at once. The end of a file that is there is
// written to, a device or FIFO is written through.
Status open_log_file(const std::string& path);
void write_log_file(LogLevel level, std::string_view sentence);  // nothing where none is open

}  // namespace fovea::cli
