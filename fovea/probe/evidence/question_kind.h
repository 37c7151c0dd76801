// What kind of answer a question asks for, by its words (English).
#pragma once

#include <string>
#include <string_view>

namespace fovea::probe {

enum class QuestionKind { kOther, kWhy, kWhether, kWhen, kNumber, kWho };

QuestionKind kind_of(std::string_view question);
// The question as a passage is read with: with a word on the form of the answer where that helps (docs/evidence.md).
std::string look_question(const std::string& question);

}  // namespace fovea::probe
