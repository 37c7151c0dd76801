// The page of a report: one file, no script, nothing from elsewhere.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "fovea/base/bytes.h"
#include "papers/support/report.h"

namespace fovea::papers {
namespace {

constexpr const char* kStyle =
    "body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;"
    "background:#fff}h1{font-size:1.5rem;line-height:1.3}h2{font-size:1.15rem;margin-top:2.5rem}"
    "table{border-collapse:collapse;width:100%;font-size:.9rem}th,td{text-align:left;vertical-align:top;"
    "padding:.35rem .7rem;border-bottom:1px solid #d8dee4}td.n{text-align:right;font-variant-numeric:tabular-nums}"
    "code{font:.85rem ui-monospace,monospace;overflow-wrap:anywhere}.good{color:#116329;font-weight:600}"
    ".bad{color:#a40e26;font-weight:600}.open{color:#7d4e00;font-weight:600}svg{max-width:100%;height:auto;"
    "font:12px system-ui,sans-serif}.wide{overflow-x:auto}";
constexpr const char* kColors[] = {"#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#57606a"};

std::string number_text(double value) { return fmt::format("{:.4g}", value); }

std::string value_text(const Json& value) {
  if (value.is_number_float()) return number_text(value.get<double>());
  return value.is_string() ? value.get<std::string>() : value.dump();
}

std::string label_of(const Cell& cell) {
  std::string out = cell.arm;
  for (const auto& [name, value] : cell.setting.items()) out += fmt::format(", {} {}", name, value_text(value));
  return out;
}

std::string checks_table(const Report& report) {
  std::string out = "<h2>Checks</h2>\n<table><tr><th>Item<th>Kind<th>Check<th>Measured<th>Expected<th>Verdict</tr>\n";
  for (const CheckResult& check : report.checks) {
    const char* look = check.passed ? "good" : check.kind == Kind::kShape ? "open" : "bad";
    out += fmt::format("<tr><td class=n>{}<td>{}<td>{}<br><code>{}</code><td>{}<td>{}<td class={}>{}</tr>\n",
                       check.item, name_of(check.kind), escaped_html(check.name), escaped_html(check.command),
                       escaped_html(check.measured), escaped_html(check.expected), look, verdict_of(check));
  }
  out +=
      "</table>\n<p>An <i>exact</i> check is what the code must do and a <i>control</i> what must not show: one that "
      "fails fails the run. A <i>shape</i> is what the paper says of models: one that does not show is a "
      "finding.</p>\n";
  for (const Skipped& each : report.skipped)
    out +=
        fmt::format("<p>Left out: item {}, {}: {}</p>\n", each.item, escaped_html(each.name), escaped_html(each.why));
  return out;
}

std::vector<std::string> value_names(const Report& report) {
  std::vector<std::string> out;
  for (const Cell& cell : report.cells) {
    for (const auto& [name, value] : cell.values.items()) {
      if (value.is_primitive() && std::find(out.begin(), out.end(), name) == out.end()) out.push_back(name);
    }
  }
  return out;
}

std::string cells_table(const Report& report, const std::vector<std::string>& names) {
  std::string out = "<h2>Arms</h2>\n<div class=wide><table><tr><th>Arm and setting";
  for (const std::string& name : names) out += "<th>" + escaped_html(name);
  out += "<th>seconds</tr>\n";
  for (const Cell& cell : report.cells) {
    out += "<tr><td>" + escaped_html(label_of(cell));
    for (const std::string& name : names) {
      const auto it = cell.values.find(name);
      out += "<td class=n>" + (it == cell.values.end() ? "" : escaped_html(value_text(*it)));
    }
    out += fmt::format("<td class=n>{:.1f}</tr>\n", cell.seconds);
  }
  return out + "</table></div>\n";
}

// One bar for each cell that has a number of this name; negative ones are drawn as 0.
std::string bars(const Report& report, const std::string& name) {
  constexpr int kRow = 40, kBar = 760;
  std::string rows;
  double most = 0;
  int n = 0;
  for (const Cell& cell : report.cells) {
    const auto it = cell.values.find(name);
    if (it != cell.values.end() && it->is_number()) most = std::max(most, it->get<double>());
  }
  for (const Cell& cell : report.cells) {
    const auto it = cell.values.find(name);
    if (it == cell.values.end() || !it->is_number()) continue;
    const double value = it->get<double>(), width = most > 0 ? std::max(0.0, value) / most * kBar : 0;
    const int y = kRow * n++;
    rows += fmt::format(
        "<text x=\"0\" y=\"{}\">{}</text><rect x=\"0\" y=\"{}\" width=\"{:.1f}\" height=\"14\" fill=\"{}\"/>"
        "<text x=\"{:.1f}\" y=\"{}\">{}</text>\n",
        y + 13, escaped_html(label_of(cell)), y + 18, width, kColors[0], width + 6, y + 30, number_text(value));
  }
  if (n < 2) return "";
  return fmt::format("<h2>{}</h2>\n<svg viewBox=\"0 0 {} {}\" width=\"{}\" role=\"img\" aria-label=\"{}\">\n{}</svg>\n",
                     escaped_html(name), kBar + 70, kRow * n + 6, kBar + 70, escaped_html(name), rows);
}

std::string lines(const Plot& plot) {
  constexpr int kWidth = 760, kHeight = 340, kLeft = 60, kTop = 16, kBottom = 40;
  constexpr double kInf = std::numeric_limits<double>::infinity();
  double x0 = kInf, x1 = -kInf, y0 = kInf, y1 = -kInf;
  for (const Series& series : plot.series) {
    for (const auto& [x, y] : series.points)
      x0 = std::min(x0, x), x1 = std::max(x1, x), y0 = std::min(y0, y), y1 = std::max(y1, y);
  }
  if (!(x1 > x0)) return "";
  if (!(y1 > y0)) y1 = y0 + 1;
  const auto at_x = [&](double x) { return kLeft + (x - x0) / (x1 - x0) * (kWidth - kLeft - 20); };
  const auto at_y = [&](double y) { return kHeight - kBottom - (y - y0) / (y1 - y0) * (kHeight - kBottom - kTop); };
  std::string out =
      fmt::format("<h2>{}</h2>\n<svg viewBox=\"0 0 {} {}\" width=\"{}\" role=\"img\" aria-label=\"{}\">\n",
                  escaped_html(plot.title), kWidth, kHeight, kWidth, escaped_html(plot.title));
  for (int i = 0; i <= 4; ++i) {
    const double x = x0 + (x1 - x0) * i / 4, y = y0 + (y1 - y0) * i / 4;
    out += fmt::format(
        "<line x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#d8dee4\"/><text x=\"{}\" y=\"{:.1f}\" "
        "text-anchor=\"end\">{}</text><text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
        kLeft, kWidth - 20, at_y(y), at_y(y), kLeft - 6, at_y(y) + 4, number_text(y), at_x(x), kHeight - kBottom + 16,
        number_text(x));
  }
  size_t n = 0;
  for (const Series& series : plot.series) {
    const char* color = kColors[n % std::size(kColors)];
    std::string points;
    for (const auto& [x, y] : series.points) points += fmt::format("{:.1f},{:.1f} ", at_x(x), at_y(y));
    out += fmt::format(
        "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"2\" points=\"{}\"/><text x=\"{}\" y=\"{}\" "
        "text-anchor=\"end\" fill=\"{}\">{}</text>\n",
        color, points, kWidth - 24, kTop + 14 + 16 * static_cast<int>(n), color, escaped_html(series.name));
    ++n;
  }
  return out +
         fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text><text x=\"4\" y=\"12\">{}</text></svg>\n",
                     (kLeft + kWidth) / 2, kHeight - 6, escaped_html(plot.x), escaped_html(plot.y));
}

}  // namespace

std::string to_html(const Report& report) {
  const nlohmann::json machine = machine_json();
  std::string settings;
  for (const auto& [name, value] : report.settings) settings += fmt::format(" {}={}", name, value);
  std::string out = fmt::format(
      "<!doctype html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width\">"
      "<title>{0}</title><style>{1}</style></head><body>\n<h1>{2}</h1>\n<p>{3}; {4}</p>\n",
      escaped_html(report.slug), kStyle, escaped_html(report.title), escaped_html(report.source),
      report.failed().empty() ? "no exact check and no control failed"
                              : fmt::format("<span class=bad>{} failed</span>", report.failed().size()));
  out += "<table>\n";
  for (const auto& [name, value] : std::vector<std::pair<const char*, std::string>>{
           {"Model", report.model.empty() ? "none" : report.model},
           {"SHA-256", report.model_sha256},
           {"Command", report.command},
           {"Settings", settings},
           {"Seed, numerics", fmt::format("{}, {}", report.seed, report.numerics)},
           {"Build", report.build},
           {"Machine", fmt::format("{}, {} cores, {}", machine["cpu"].get<std::string>(), machine["cores"].get<int>(),
                                   machine["isa"].get<std::string>())}})
    out += fmt::format("<tr><th>{}<td><code>{}</code></tr>\n", name, escaped_html(value));
  out += "</table>\n" + checks_table(report);
  if (!report.cells.empty()) {
    const std::vector<std::string> names = value_names(report);
    out += cells_table(report, names);
    for (const std::string& name : names) out += bars(report, name);
  }
  for (const Plot& plot : report.plots) out += lines(plot);
  return out + "</body></html>\n";
}

}  // namespace fovea::papers
