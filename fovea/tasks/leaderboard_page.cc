// The page of a leaderboard: one file, no script, nothing from elsewhere.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/tasks/leaderboard.h"

namespace fovea::tasks {
namespace {

constexpr const char* kBoardStyle =
    "body{font:16px/1.5 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;"
    "background:#fff}h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.5rem}"
    "table{border-collapse:collapse;font-size:.9rem}th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid "
    "#d8dee4}td.n{text-align:right;font-variant-numeric:tabular-nums}td.mute{color:#8c959f}.wide{overflow-x:auto}"
    "svg{max-width:100%;height:auto;font:11px system-ui,sans-serif}";

struct BoardPoint {
  std::string name;
  double cost, loss;  // both better where less
};

// Of points by rising cost, those that none cheaper is as good as.
std::vector<BoardPoint> frontier_of(std::vector<BoardPoint> points) {
  std::sort(points.begin(), points.end(), [](const BoardPoint& a, const BoardPoint& b) {
    return std::pair(a.cost, a.loss) < std::pair(b.cost, b.loss);
  });
  std::vector<BoardPoint> out;
  for (const BoardPoint& point : points) {
    if (out.empty() || point.loss < out.back().loss) out.push_back(point);
  }
  return out;
}

// Points, the frontier as a line; a point's name shows beside it, and whole under the pointer.
std::string pareto_plot(const std::vector<BoardPoint>& points, const std::string& x_name, const std::string& y_name) {
  constexpr double kWidth = 860, kHeight = 400, kLeft = 64, kRight = 150, kTop = 24, kBottom = 44;
  double most_x = 0, y0 = 0, y1 = 0;
  for (const BoardPoint& point : points)
    most_x = std::max(most_x, point.cost), y0 = std::min(y0, point.loss), y1 = std::max(y1, point.loss);
  if (!(most_x > 0)) return "";
  if (!(y1 > y0)) y1 = y0 + 1;
  const auto at_x = [&](double x) { return kLeft + x / most_x * (kWidth - kLeft - kRight); };
  const auto at_y = [&](double y) { return kTop + (y1 - y) / (y1 - y0) * (kHeight - kTop - kBottom); };
  std::string out = fmt::format(
      "<h2>{1} against {0}</h2>\n<svg viewBox=\"0 0 {2} {3}\" width=\"{2}\" role=\"img\" aria-label=\"{1} against "
      "{0}\">\n",
      escaped_html(x_name), escaped_html(y_name), kWidth, kHeight);
  for (int i = 0; i <= 4; ++i) {
    const double x = most_x * i / 4, y = y0 + (y1 - y0) * i / 4;
    out += fmt::format(
        "<line x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#d8dee4\"/><text x=\"{}\" y=\"{:.1f}\" "
        "text-anchor=\"end\">{:.3g}</text><text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{:.3g}</text>\n",
        kLeft, kWidth - kRight, at_y(y), at_y(y), kLeft - 6, at_y(y) + 4, y, at_x(x), kHeight - kBottom + 16, x);
  }
  std::string line;
  for (const BoardPoint& point : frontier_of(points))
    line += fmt::format("{:.1f},{:.1f} ", at_x(point.cost), at_y(point.loss));
  out += fmt::format("<polyline fill=\"none\" stroke=\"#0969da\" points=\"{}\"/>\n", line);
  for (const BoardPoint& point : points) {
    out += fmt::format(
        "<circle cx=\"{0:.1f}\" cy=\"{1:.1f}\" r=\"4\" fill=\"#bc4c00\"><title>{2}</title></circle><text x=\"{3:.1f}\" "
        "y=\"{4:.1f}\">{5}</text>\n",
        at_x(point.cost), at_y(point.loss), escaped_html(point.name), at_x(point.cost) + 7, at_y(point.loss) + 4,
        escaped_html(point.name.substr(0, 28)));
  }
  return out +
         fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text><text x=\"4\" y=\"12\">{}</text></svg>\n",
                     (kLeft + kWidth - kRight) / 2, kHeight - 6, escaped_html(x_name), escaped_html(y_name));
}

std::string board_table(const Board& board) {
  std::string out = "<div class=wide><table><tr><th>Method<th>Score";
  for (const BoardRow::Cell& cell : board.rows[0].cells) out += "<th>" + escaped_html(cell.task);
  out += "<th>NLL less dense's<th>Prefill speed-up<th>Decode speed-up<th>KV bytes, of dense's</tr>\n";
  for (const BoardRow& row : board.rows) {
    const auto score = row.score();
    out +=
        fmt::format("<tr><td>{}<td class=n>{}", escaped_html(row.method), score ? fmt::format("{:.3f}", *score) : "-");
    for (const BoardRow::Cell& cell : row.cells)
      out += fmt::format("<td class=\"n{}\">{:.3f}", cell.tells() ? "" : " mute", cell.score);
    out += fmt::format("<td class=n>{:+.4f}<td class=n>{:.2f}<td class=n>{:.2f}<td class=n>{:.3f}</tr>\n",
                       row.nll_delta, row.prefill_speedup(), row.decode_speedup(), row.kv_ratio());
  }
  return out + "</table></div>\n";
}

}  // namespace

std::string leaderboard_page(const Board& board, const std::string& title, const std::string& setting) {
  std::string out = fmt::format(
      "<!doctype html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width\">"
      "<title>{0}</title><style>{1}</style></head><body>\n<h1>{0}</h1>\n<p>{2}</p>\n",
      escaped_html(title), kBoardStyle, escaped_html(setting));
  if (!board.rows.empty()) {
    out += board_table(board) +
           fmt::format(
               "<p>Tasks in grey tell nothing here: dense solves less than {:.0f} % of them. The score is the "
               "mean over the others.</p>\n",
               100 * kEnoughOfDense);
    const bool tells = board.rows[0].score().has_value();
    std::vector<BoardPoint> nll_time, nll_bytes, score_time, score_bytes;
    for (const BoardRow& row : board.rows) {
      const double time = 1 / row.prefill_speedup();
      nll_time.push_back({row.method, time, row.nll_delta});
      nll_bytes.push_back({row.method, row.kv_ratio(), row.nll_delta});
      if (!tells) continue;
      const double lost = *board.rows[0].score() - *row.score();
      score_time.push_back({row.method, time, lost});
      score_bytes.push_back({row.method, row.kv_ratio(), lost});
    }
    const std::string time = "prefill time, of dense's", bytes = "KV bytes, of dense's";
    out += pareto_plot(score_time, time, "Score lost") + pareto_plot(score_bytes, bytes, "Score lost");
    out += pareto_plot(nll_time, time, "NLL gained (nats a token)") +
           pareto_plot(nll_bytes, bytes, "NLL gained (nats a token)");
  }
  if (!board.left_out.empty()) out += "<h2>Left out</h2>\n";
  for (const LeftOut& each : board.left_out)
    out += fmt::format("<p>{}: {}</p>\n", escaped_html(each.method), escaped_html(each.why));
  return out + "</body></html>\n";
}

}  // namespace fovea::tasks
