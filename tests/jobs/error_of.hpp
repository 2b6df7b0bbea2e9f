// The error of a result, or an empty text when there is none: safe to ask where a test expects one.
#pragma once

#include <expected>
#include <string>

namespace regroup {

template <class Value>
std::string error_of(const std::expected<Value, std::string>& result) {
  return result ? std::string() : result.error();
}

}  // namespace regroup
