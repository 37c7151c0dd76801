#include "fovea/train/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "fovea/base/bytes.h"
#include "fovea/base/json.h"

namespace fovea::train {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kColours = 6;

struct Curve {
  std::string name;
  std::vector<std::pair<double, double>> points;  // step, value
};

// At most `most` of them: the means of neighbours.
std::vector<std::pair<double, double>> thinned(const std::vector<std::pair<double, double>>& points, size_t most) {
  if (points.size() <= most) return points;
  std::vector<std::pair<double, double>> out;
  for (size_t i = 0; i < most; ++i) {
    const size_t begin = i * points.size() / most, end = (i + 1) * points.size() / most;
    double x = 0, y = 0;
    for (size_t k = begin; k < end; ++k) x += points[k].first, y += points[k].second;
    out.emplace_back(x / static_cast<double>(end - begin), y / static_cast<double>(end - begin));
  }
  return out;
}

// Curves over steps in one frame.
std::string plot(const std::string& title, const std::vector<Curve>& curves) {
  constexpr double kWidth = 640, kHeight = 220, kLeft = 64, kTop = 12, kRight = 12, kBottom = 28;
  double x0 = 1e300, x1 = -1e300, y0 = 1e300, y1 = -1e300;
  for (const Curve& curve : curves) {
    for (const auto& [x, y] : curve.points)
      x0 = std::min(x0, x), x1 = std::max(x1, x), y0 = std::min(y0, y), y1 = std::max(y1, y);
  }
  if (x0 > x1) return "";
  if (x1 == x0) x1 = x0 + 1;
  if (y1 == y0) y1 = y0 + std::max(1e-12, std::abs(y0) * 0.1);
  const auto px = [&](double x) { return kLeft + (x - x0) / (x1 - x0) * (kWidth - kLeft - kRight); };
  const auto py = [&](double y) { return kHeight - kBottom - (y - y0) / (y1 - y0) * (kHeight - kTop - kBottom); };
  std::string out =
      fmt::format("<h2>{}</h2><svg viewBox=\"0 0 {} {}\" role=\"img\">", escaped_html(title), kWidth, kHeight);
  for (int i = 0; i <= 4; ++i) {
    const double y = y0 + (y1 - y0) * i / 4, x = x0 + (x1 - x0) * i / 4;
    out += fmt::format("<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>", kLeft, kWidth - kRight,
                       py(y), py(y));
    out += fmt::format("<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{:.4g}</text>", kLeft - 6, py(y) + 4, y);
    out += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{:.0f}</text>", px(x), kHeight - 8, x);
  }
  for (size_t c = 0; c < curves.size(); ++c) {
    std::string path;
    for (const auto& [x, y] : thinned(curves[c].points, 1200))
      path += fmt::format("{}{:.1f},{:.1f} ", path.empty() ? "M" : "L", px(x), py(y));
    out += fmt::format("<path class=\"c{}\" d=\"{}\"><title>{}</title></path>", c % kColours, path,
                       escaped_html(curves[c].name));
  }
  out += "</svg>";
  if (curves.size() > 1) {
    out += "<p class=\"key\">";
    for (size_t c = 0; c < curves.size(); ++c)
      out += fmt::format("<span class=\"k{}\">&#9632;</span> {} ", c % kColours, escaped_html(curves[c].name));
    out += "</p>";
  }
  return out + "\n";
}

constexpr std::string_view kHead = R"(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Training run</title><style>
:root { color-scheme: light dark; --a: #1f6feb; --b: #d1642a; --c: #2a9d4e; --d: #b0409c; --e: #8a7a1f; --f: #7a7a7a;
  --grid: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
h2 { font-size: 1rem; margin: 1.5rem 0 .25rem; } svg { width: 100%; height: auto; }
svg text { font-size: 11px; fill: currentColor; } .grid { stroke: var(--grid); }
path { fill: none; stroke-width: 1.6; } .c0 { stroke: var(--a); } .c1 { stroke: var(--b); }
.c2 { stroke: var(--c); } .c3 { stroke: var(--d); } .c4 { stroke: var(--e); } .c5 { stroke: var(--f); }
.k2 { color: var(--c); } .k3 { color: var(--d); } .k4 { color: var(--e); } .k5 { color: var(--f); }
.k0 { color: var(--a); } .k1 { color: var(--b); } .key { margin: 0; font-size: 13px; }
table { border-collapse: collapse; } td { padding: .15rem .8rem .15rem 0; vertical-align: top; }
pre { overflow-x: auto; background: #8881; padding: .8rem; font-size: 13px; }
</style></head><body>
)";

}  // namespace

std::string report_page(const std::string& log, const Json& training) {
  Curve loss{"training", {}}, eval{"held out", {}}, norm{"grad_norm", {}}, rate{"lr", {}},
      speed{"tokens_per_second", {}}, right{"held out", {}};
  Json last;
  for (size_t at = 0; at < log.size();) {
    const size_t end = std::min(log.find('\n', at), log.size());
    const auto line = parse_json(std::string_view(log).substr(at, end - at), "log");
    at = end + 1;
    if (!line || !line->is_object() || !line->contains("step")) continue;
    const double step = line->value("step", 0.0);
    const auto add = [&](Curve& curve, const char* key) {
      if (line->contains(key) && (*line)[key].is_number()) curve.points.emplace_back(step, (*line)[key].get<double>());
    };
    add(loss, "loss"), add(eval, "eval_loss"), add(norm, "grad_norm"), add(rate, "lr"), add(speed, "tokens_per_second");
    add(right, "eval_accuracy");
    last = *line;
  }
  std::string out(kHead);
  out += "<h1>Training run</h1>\n<table>";
  for (const auto& [key, value] : training.items()) {
    if (!value.is_structured())
      out += fmt::format("<tr><td>{}</td><td>{}</td></tr>", escaped_html(key),
                         escaped_html(value.is_string() ? value.get<std::string>() : value.dump()));
  }
  out += "</table>\n";
  out += plot("loss", eval.points.empty() ? std::vector<Curve>{loss} : std::vector<Curve>{loss, eval});
  if (!right.points.empty()) out += plot("share that is right", {right});
  out += plot("norm of the gradient, before clipping", {norm});
  out += plot("learning rate", {rate});
  out += plot("tokens a second", {speed});
  if (training.contains("config"))
    out += "<h2>config</h2><pre>" + escaped_html(training["config"].dump(2)) + "</pre>\n";
  return out + "</body></html>\n";
}

std::string heads_page(const Json& run) {
  Curve loss{"held out", {}};
  std::map<std::string, std::vector<Curve>> measures;  // a curve of each layer
  for (const Json& at : run.value("steps", Json::array())) {
    const double step = at.value("step", 0.0);
    for (const auto& [name, value] : at.items()) {
      if (name == "eval_loss" && value.is_number()) loss.points.emplace_back(step, value.get<double>());
      if (!value.is_array()) continue;
      std::vector<Curve>& layers = measures[name];
      layers.resize(std::max(layers.size(), value.size()));
      for (size_t l = 0; l < value.size(); ++l) {
        layers[l].name = fmt::format("layer {}", l);
        if (!value[l].empty()) layers[l].points.emplace_back(step, *std::max_element(value[l].begin(), value[l].end()));
      }
    }
  }
  std::string out(kHead);
  out += fmt::format("<h1>How heads formed</h1>\n<p>{}</p>\n", escaped_html(run.value("run", "")));
  out += plot("loss, held out", {loss});
  for (const auto& [name, layers] : measures) out += plot(fmt::format("{}: the best head of each layer", name), layers);
  return out + "</body></html>\n";
}

}  // namespace fovea::train
