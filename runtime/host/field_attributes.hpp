// What a gridded field is, as attributes of the dataset that holds it: the same in checkpoints and
// in results (docs/checkpoints.md#fields).
#pragma once

#include <string>

#include "runtime/host/hdf5_wrapper.hpp"
#include "runtime/protocol/field.hpp"

namespace regroup {

inline hdf5::Expected<void> put_field(hdf5::Node& dataset, const GridField& field) {
  auto done = dataset.put_attribute("field", field.name);
  if (done) done = dataset.put_attribute("units", field.units);
  if (done)
    done = dataset.put_attribute(
        "centred", std::string(field.centre == FieldCentre::kCells ? "cells" : "nodes"));
  if (done) done = dataset.put_attribute("spacing", field.spacing);
  if (done) done = dataset.put_attribute("origin", field.origin);
  return done;
}

}  // namespace regroup
