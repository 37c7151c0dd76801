// The texts that names stand for: files, folders, patterns, standard input.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "fovea/engine/document.h"

namespace fovea::engine {

struct Documents {
  static constexpr size_t kMost = 1000;
  std::vector<Document> read;
  std::vector<std::string> skipped;  // a sentence for each file of a folder or pattern that is no text
};

// "-" is standard input, once. A name of nothing that has *, ? or [ in it is a pattern: what a shell would make of it
// if it had not been quoted. A folder stands for the files in it, by name; hidden ones and folders in it do not count.
// What a folder or a pattern brings and is no text is skipped, what is named itself is an error, and so is a folder or
// pattern without any text. kNotFound: nothing of that name, or that pattern; kLimit: more than kMost files.
Result<Documents> read_documents(std::span<const std::string> names);

}  // namespace fovea::engine
