"""AutoFlow runs workflows of Jupyter notebooks for each new date of data that FlowAPI has."""
