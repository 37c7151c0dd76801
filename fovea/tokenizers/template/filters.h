// Filters on texts; private to tokenizers. The table of all filters is in filters.cc.
#pragma once

#include <vector>

#include "fovea/tokenizers/template/value.h"

namespace fovea::tokenizers::jinja {

struct Filter {
  std::vector<const char*> params;
  size_t required;
  Value (*apply)(Machine& m, const Value& v, const Bound& a);
};

Str escaped(Machine& m, const Str& text);

Value filter_replace(Machine& m, const Value& v, const Bound& a);
Value filter_title(Machine& m, const Value& v, const Bound& a);
Value filter_escape(Machine& m, const Value& v, const Bound& a);
Value filter_indent(Machine& m, const Value& v, const Bound& a);
Value filter_truncate(Machine& m, const Value& v, const Bound& a);
Value filter_wordcount(Machine& m, const Value& v, const Bound& a);
Value filter_urlencode(Machine& m, const Value& v, const Bound& a);
Value filter_xmlattr(Machine& m, const Value& v, const Bound& a);
Value filter_filesizeformat(Machine& m, const Value& v, const Bound& a);
Value filter_tojson(Machine& m, const Value& v, const Bound& a);

}  // namespace fovea::tokenizers::jinja
