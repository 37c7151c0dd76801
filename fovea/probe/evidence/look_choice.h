// Which of several answers to one question to give, by how likely the model holds each with what it read and without.
#pragma once

#include <string>

#include "fovea/probe/evidence/look.h"
#include "fovea/probe/evidence/question_kind.h"

namespace fovea::probe {

// Whether one says no more than the other, but for marks, spaces and case.
bool same_answer(const std::string& a, const std::string& b);

// Sets chosen, supported and disagree by what `looked.looks` say.
void choose(Looked& looked, QuestionKind kind);

}  // namespace fovea::probe
