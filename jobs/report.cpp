#include "jobs/report.hpp"

#include <utility>

#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

template <class... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};

ResultValue to_value(const ReportCell& cell) {
  return std::visit(Overloaded{[](std::string_view text) { return ResultValue(std::string(text)); },
                               [](auto number) { return ResultValue(number); }},
                    cell);
}

}  // namespace

void Report::keep(std::expected<void, std::string> outcome) {
  if (status_ && !outcome) status_ = std::move(outcome);
}

void Report::value(std::string name, ResultValue value) {
  values_.push_back({name, value});
  keep(file_->scalar(std::move(name), std::move(value)));
}

void Report::columns(std::vector<ResultColumn> columns) {
  REGROUP_CHECK(columns_.empty(), "a report has one table");
  columns_ = std::move(columns);
  for (const ResultColumn& column : columns_) {
    switch (column.type) {
      case ColumnType::kFloat64:
        held_.emplace_back(std::vector<double>());
        break;
      case ColumnType::kInt64:
        held_.emplace_back(std::vector<std::int64_t>());
        break;
      case ColumnType::kUint64:
        held_.emplace_back(std::vector<std::uint64_t>());
        break;
      case ColumnType::kText:
        held_.emplace_back(Texts());
        break;
    }
  }
  keep(file_->columns(columns_));
}

void Report::row(std::initializer_list<ReportCell> cells) {
  REGROUP_CHECK(cells.size() == columns_.size(), "a row has one cell a column");
  std::size_t column = 0;
  for (const ReportCell& cell : cells) {
    std::visit(
        Overloaded{
            [](Texts& texts, std::string_view text) {
              texts.bytes += text;
              texts.ends.push_back(texts.bytes.size());
            },
            []<class T>(std::vector<T>& numbers, T number) { numbers.push_back(number); },
            [](auto&, auto) { REGROUP_CHECK(false, "a cell of another type than its column"); }},
        held_[column++], cell);
  }
  if (rows_ < kPreviewRowsMax) {
    auto& kept = preview_.emplace_back();
    for (const ReportCell& cell : cells) kept.push_back(to_value(cell));
  }
  ++rows_;
  if (++rows_held_ == kRowsHeld) flush();
}

void Report::array(std::string name, std::vector<std::uint64_t> shape,
                   std::span<const double> numbers) {
  keep(file_->array({std::move(name), ElementType::kFloat64, std::move(shape)},
                    std::as_bytes(numbers)));
}

void Report::array(std::string name, std::vector<std::uint64_t> shape,
                   std::span<const std::uint64_t> numbers) {
  keep(file_->array({std::move(name), ElementType::kUint64, std::move(shape)},
                    std::as_bytes(numbers)));
}

void Report::field(const GridField& field, double time, std::span<const double> numbers) {
  keep(file_->field(field, time, numbers));
}

void Report::picture(const Picture& picture) {
  picture_files_.push_back(picture_file_name(picture.name));
  keep(file_->picture(picture));
}

void Report::flush() {
  if (rows_held_ == 0) return;
  std::vector<std::vector<std::string_view>> texts;
  texts.reserve(held_.size());
  std::vector<ColumnValues> values;
  for (const Held& held : held_) {
    std::visit(Overloaded{[&](const Texts& column) {
                            auto& views = texts.emplace_back();
                            std::size_t begin = 0;
                            for (const std::size_t end : column.ends) {
                              views.emplace_back(column.bytes.data() + begin, end - begin);
                              begin = end;
                            }
                            values.emplace_back(std::span<const std::string_view>(views));
                          },
                          [&]<class T>(const std::vector<T>& column) {
                            values.emplace_back(std::span<const T>(column));
                          }},
               held);
  }
  keep(file_->append_rows(values));
  for (Held& held : held_) {
    std::visit(Overloaded{[](Texts& column) {
                            column.bytes.clear();
                            column.ends.clear();
                          },
                          [](auto& column) { column.clear(); }},
               held);
  }
  rows_held_ = 0;
}

std::expected<void, std::string> Report::finish() {
  flush();
  return status_;
}

}  // namespace regroup
