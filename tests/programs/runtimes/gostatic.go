package main

func extra() string { return "static" }
